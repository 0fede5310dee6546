"""`vendorgate replay`: one session as it ran."""

import os
import sys
import time

import click

from appliance.cli.keys import keys
from appliance.cli.site import Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import session_id
from appliance.record import replay as player

LONGEST_S = 3.0  # pause in a replay that somebody watches


@click.command()
@click.argument("id")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Twice as fast is 2; inf does not pause.")  # fmt: skip
@click.option("--max-wait", "--longest", "longest", type=click.FloatRange(min=0), default=LONGEST_S,
              show_default=True, help="No pause is longer, in seconds.")  # fmt: skip
@pass_site
def replay(site: Site, id: str, speed: float, longest: float) -> None:
    """Play one session as it ran, in its own time.

    Nothing is sent anywhere: it is the reading of `show`, each line when its time comes. On a terminal keys steer
    it: space pauses and goes on, n jumps to the next verdict that is no plain allow (and mask, answer or incident),
    + and - double and halve the speed, q ends; any other key goes on at once. Elsewhere it is plain text.

    \b
    vendorgate replay last
    vendorgate replay last --speed 4 --max-wait 1
    """
    if speed != speed:  # noqa: PLR0124  that is how NaN is told
        raise click.BadParameter("is no number", param_hint="--speed")
    place = source(site)
    frames = place.frames(session_id(place, id))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        player.replay(frames, _write, _sleep, speed=speed, longest=longest)
        return
    with keys(sys.stdin.fileno()) as wait:
        colour = not os.environ.get("NO_COLOR")
        player.replay(frames, _write, wait, speed=speed, longest=longest, colour=colour)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _sleep(seconds: float | None) -> None:
    time.sleep(seconds or 0.0)
