"""`vendorgate show` and `vendorgate replay`: one session, to read."""

import os
import sys
import time

import click
import msgspec

from appliance.cli import screen
from appliance.cli.site import Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import find, session_id
from appliance.record import replay as player
from appliance.record import show as reader
from appliance.record.export import lines
from appliance.record.session import Session

LONGEST_S = 3.0  # pause in a replay that somebody watches


class Shown(msgspec.Struct, frozen=True):
    """The JSON form of a session with all its notes."""

    session: Session
    notes: list[msgspec.Raw]


@click.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; bytes are base64.")
@pass_site
def show(site: Site, id: str, as_json: bool) -> None:
    """Print one session: who, every statement, its verdict, what came back.

    Times are UTC. What a mask hid was never recorded, so it cannot be shown.

    \b
    vendorgate show last
    vendorgate show 01kaq3v9m2f0a7x
    vendorgate show last --json | jq '.notes[] | select(.kind == "decision")'
    """
    place = source(site)
    session = find(place, id)
    frames = place.frames(session.id)
    if as_json:
        screen.json(Shown(session, [msgspec.Raw(line) for line in lines(frames)]))
    else:
        reader.show(frames, sys.stdout.write, colour=_coloured())


@click.command()
@click.argument("id")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Twice as fast is 2; inf does not pause.")  # fmt: skip
@click.option("--longest", type=click.FloatRange(min=0), default=LONGEST_S, show_default=True,
              help="No pause is longer, in seconds.")  # fmt: skip
@pass_site
def replay(site: Site, id: str, speed: float, longest: float) -> None:
    """Play one session as it went, in its own time.

    Nothing is sent anywhere: it is the reading of `show`, each line when its time comes.

    \b
    vendorgate replay last --speed 4
    """
    if speed != speed:  # noqa: PLR0124  that is how NaN is told
        raise click.BadParameter("is no number", param_hint="--speed")
    place = source(site)
    frames = place.frames(session_id(place, id))
    player.replay(frames, _write, time.sleep, speed=speed, longest=longest, colour=_coloured())


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
