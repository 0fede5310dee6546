"""`vendorgate show`: one session, to read."""

import os
import sys

import click
import msgspec

from appliance.cli import screen
from appliance.cli.site import Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import find
from appliance.record import show as reader
from appliance.record.export import lines
from appliance.record.session import Session


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


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
