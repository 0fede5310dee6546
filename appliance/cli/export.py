"""`vendorgate export`."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.cli import screen
from appliance.cli.filters import filters, wanted
from appliance.cli.site import No, Site, Source, pass_site
from appliance.cli.store import source
from appliance.cli.words import session_id
from appliance.model import ConfigError, HostError
from appliance.record.export import FORMATS, Export, known
from appliance.record.session import Filter

STDOUT = Path("-")


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--format", default="pcapng", show_default=True, metavar="|".join(FORMATS),
              help="pcapng for Wireshark, jsonl for programs, asciicast for players, har for browsers.")  # fmt: skip
@click.option("--bundle", is_flag=True, help="All formats, approvals, rules and the proof, as one tar.")
@click.option("--redact", multiple=True, metavar="column:NAME|detector:NAME",
              help="Take it out, for readers who may not see it. May be given again.")  # fmt: skip
@click.option("--reason", default="", help="Goes into the record of exports: the case, for whom.")
@filters
@click.option("--all", "everything", is_flag=True, help="Every session there is.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write; - for stdout."
)
@pass_site
def export(  # noqa: PLR0917  one parameter an option
    site: Site,
    /,
    ids: tuple[str, ...],
    format: str,
    bundle: bool,
    redact: tuple[str, ...],
    reason: str,
    everything: bool,
    output: Path,
    **given: Any,
) -> None:
    """Write sessions to a file for other tools: those named, or those found as `sessions` finds them.

    pcapng holds packets made from the record, with who it was and each verdict as comments. A bundle unpacks to a
    directory that `vendorgate verify` checks, or its own verify.py on any machine. The file is for its owner only
    (0600), and appears whole or not at all. Who exported what is kept in the record.

    --redact takes out the values of a column, in results and in statements that may hold them, or all that a
    detector finds. A redacted bundle is signed, but has no proof in it: that would show what was taken out.

    \b
    vendorgate export last -o last.pcapng
    vendorgate export 01kaq3v9m2f0a7x 01kaq3vb10c2m4x --format jsonl -o - | jq .kind
    vendorgate export --who acme --since 2d --bundle --reason "case 2026-118" -o case.tar
    vendorgate export last --redact column:public.users.ssn --redact detector:email -o for-vendor.pcapng
    """
    found = wanted(given, 0)
    if bool(ids) + (found != Filter(limit=0)) + everything != 1:
        raise ConfigError("export", "which sessions?", "IDs, or what they are found by, or --all: one of these")
    _write(source(site), Export(ids, found, format, bundle, redact, reason), output)


def _write(place: Source, asked: Export, output: Path) -> None:
    if not asked.bundle:
        known(asked.format)
    whole = tuple(dict.fromkeys(session_id(place, id) for id in asked.ids))
    pieces = place.export(msgspec.structs.replace(asked, ids=whole))
    pieces = screen.progress(pieces, f"export {output}")
    try:
        size = _to_stdout(pieces) if output == STDOUT else _to_file(pieces, output)
    except UnicodeEncodeError:
        raise  # the name of the file, which is wrong use, and a ValueError too
    except ValueError as error:
        raise HostError(f"export: {error}", "part of the record is gone: is its retention over?") from error
    if not size and not asked.ids:
        raise No("no session matches", "vendorgate sessions, with the same options, lists those that do")
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
