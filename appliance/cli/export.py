"""`vendorgate export`."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click

from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import session_id
from appliance.model import HostError
from appliance.record.export import FORMATS

STDOUT = Path("-")


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--format", type=click.Choice(sorted(FORMATS)), default="pcapng", show_default=True,
              help="pcapng for Wireshark, jsonl for programs.")  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write; - for stdout."
)
@pass_site
def export(site: Site, ids: tuple[str, ...], format: str, output: Path) -> None:
    """Write sessions to a file for other tools.

    pcapng holds packets made from the record, with who it was and each verdict as comments. The file is for
    its owner only (0600), and appears whole or not at all.

    \b
    vendorgate export last -o last.pcapng
    vendorgate export 01kaq3v9m2f0a7x 01kaq3vb10c2m4x --format jsonl -o - | jq .kind
    """
    place = source(site)
    whole = list(dict.fromkeys(session_id(place, id) for id in ids))
    pieces = screen.progress(place.export(whole, format), f"export {output}")
    try:
        size = _to_stdout(pieces) if output == STDOUT else _to_file(pieces, output)
    except ValueError as error:
        raise HostError(f"export: {error}", "part of the record is gone: is its retention over?") from error
    if not size:
        raise No(
            "nothing of these sessions is left in the record", "retention in the settings says how long it is"
        )
    if output != STDOUT:
        screen.warn(f"{output}: {screen.amount(size)}")


def _to_stdout(pieces: Iterable[bytes]) -> int:
    if sys.stdout.isatty():
        # A capture would garble a terminal, and the text in it is not made harmless.
        raise click.BadParameter("stdout is a terminal: redirect it or name a file", param_hint="-o")
    return sum(sys.stdout.buffer.write(piece) for piece in pieces)


def _to_file(pieces: Iterable[bytes], output: Path) -> int:
    """Write beside the place, then move; what was there stays until the new file is whole."""
    size = 0
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        try:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            if size:
                os.replace(file.name, output)
        finally:
            Path(file.name).unlink(missing_ok=True)
    return size
