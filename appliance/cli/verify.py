"""`vendorgate verify`: whether the record is whole."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.cli.words import Moment
from appliance.model import ConfigError, HostError

if TYPE_CHECKING:
    from appliance.record.verify import Wanted

WHERE = "state_dir in the settings says where"


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--from", "since", type=Moment(), help="Only segments with something since then.")
@click.option("--to", "until", type=Moment(), help="Only segments with something before then.")
@click.option("--key", metavar="HEX|FILE", help="The public key, from elsewhere than beside the record.")
@click.option("--anchors", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A file with lines `vendorgate checkpoint ...` that were kept elsewhere.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--standalone", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the verifier as one Python file without dependencies, and do nothing else.")  # fmt: skip
@pass_site
def verify(  # noqa: PLR0917  one parameter an option
    site: Site,
    directory: Path | None,
    since: float | None,
    until: float | None,
    key: str | None,
    anchors: Path | None,
    as_json: bool,
    standalone: Path | None,
) -> int:
    """Check that the record is whole: chain, signatures, roots, and every session the fence counted.

    Without DIRECTORY it is this host's record, which the service may go on writing; DIRECTORY is the place of an
    unpacked `export --bundle`, or a copy of a state directory. Exit status 1, and the first bad place first:
    which file, at which byte, which frame, and what is wrong there.

    The key beside the record, and the record, could both be replaced by who was root here. --key and --anchors
    take what was kept elsewhere.

    \b
    vendorgate verify
    vendorgate verify --from 7d --json
    vendorgate verify --anchors /var/log/remote/anchors.log --key 9f3c...
    vendorgate verify --standalone verify.py && python3 verify.py DIRECTORY
    """
    if standalone:
        from appliance.record import standalone as program  # noqa: PLC0415  help needs none of it

        standalone.write_text(program.source())
        return 0
    from appliance.record.verify import Wanted  # noqa: PLC0415

    told = anchors.read_text(errors="replace") if anchors else ""
    wanted = Wanted(since or 0.0, float("inf") if until is None else until, _key(key), told, own=not directory)
    return _check(directory or site.settings.state_dir, wanted, as_json)


def _check(root: Path, wanted: "Wanted", as_json: bool) -> int:
    from appliance.record.audit.program import Screen  # noqa: PLC0415
    from appliance.record.verify import describe, summary, verify  # noqa: PLC0415

    _look(root)
    try:
        report = verify(root, wanted, Screen())
    except OSError as error:
        raise HostError(f"{error.filename or root}: {error.strerror}", _remedy(error)) from None
    if as_json:
        screen.json(summary(report))
    else:
        click.echo("\n".join(screen.visible_lines(describe(report))))
        if not (wanted.key or wanted.anchors):
            print(f"key {report.key} was read beside the record: compare it with what you noted", file=sys.stderr)
    return 0 if report.whole else 1


def _look(root: Path) -> None:
    """Tell a record that is not there, or not for us, from one that is bad."""
    try:
        names = {path.name for path in root.iterdir()}
        for name in names & {"proof", "records"}:
            next((root / name).iterdir(), None)
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}", _remedy(error)) from None
    if not names & {"proof", "records", "manifest.json"}:
        raise No(f"{root}: nothing is recorded here", WHERE)


def _remedy(error: OSError) -> str:
    return WHERE if isinstance(error, FileNotFoundError) else "only root reads the record"


def _key(word: str | None) -> bytes:
    """Return a public key, given in hex or by its file."""
    if not word:
        return b""
    try:
        found = bytes.fromhex(Path(word).read_text() if Path(word).exists() else word)
    except (OSError, ValueError):
        found = b""
    if len(found) != 32:
        raise ConfigError("--key", f"`{word}` is no public key", "64 hex digits, or a file as proof/key.pub")
    return found
