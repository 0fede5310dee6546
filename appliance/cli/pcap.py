"""`vendorgate pcap`: a capture made elsewhere, judged by rules, and imported."""

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from appliance.cli import screen
from appliance.cli.hub import Hub
from appliance.cli.identity import who as by_whom
from appliance.cli.site import No, Site, pass_site
from appliance.cli.texts import rules_at
from appliance.model import ConfigError, Flow, HostError, Note
from appliance.policy import Policy

if TYPE_CHECKING:
    from appliance.service.foreign.capture import Capture, Caught
    from appliance.service.foreign.flows import Sink
    from appliance.service.foreign.found import Found
    from appliance.service.foreign.imports import Imports

MAX_LISTED = 10_000  # sessions in one JSON document; all are counted, and imported
MAX_REASON = 500  # characters; it stays in the checkpoints for ever
PIECE = 1 << 20
COLOURS = {"block": "red", "approve": "yellow", "allow": "green"}


class Summary(msgspec.Struct, frozen=True):
    """The JSON form of what a capture was found to be."""

    file: str
    sha256: str
    frames: int
    cut: bool  # the file ends in the middle of a frame
    revision: str  # of the rules
    sessions: "list[Found]"
    more: int  # sessions that are not in the list
    left_out: dict[str, int]  # frames and bytes that no session has, and how sessions ended, by why
    imported: bool = False


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rules", "path", required=True, type=click.Path(path_type=Path, exists=True),
              help="Directory or file of the rules to judge by.")  # fmt: skip
@click.option("--who", default="", metavar="IDENTITY", help="Whose traffic it is; a capture does not tell.")
@click.option("--import", "imports", is_flag=True, help="Put the sessions into the record (root).")
@click.option("--reason", default="", help="Goes into the record with --import: the case, where the file is from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def pcap(site: Site, file: Path, path: Path, who: str, imports: bool, reason: str, as_json: bool) -> None:  # noqa: PLR0917
    """Judge a capture made elsewhere.

    Tells which sessions are in it, and what each rule would have done.

    FILE is pcap or pcapng, - for stdin. Connections are put together as their receivers did; protocols are known by
    the targets in the rules, else by first bytes and ports. TLS is not opened: what it says in the clear is judged.
    Nothing was refused when it was captured, so a verdict says what would have been.

    --import puts the sessions, with their verdicts, into the record: `sessions`, `show`, `replay`, `export`, `verify`
    and `whatif` then work on them. They are marked with the file's name and SHA-256, and kept as if they were of
    today. What the rules mask is masked there.

    \b
    vendorgate pcap incident.pcapng --rules /etc/vendorgate/rules.d --who acme
    vendorgate pcap incident.pcapng --rules ./rules.d --json | jq '.sessions[].judged[] | select(.verdict == "block")'
    vendorgate pcap incident.pcapng --rules ./rules.d --import --reason "case 2026-118"
    """
    if len(reason) > MAX_REASON:
        raise ConfigError("--reason", f"longer than {MAX_REASON} characters", "name the case, not all of it")
    if imports and str(file) == "-":
        raise ConfigError("--import", "takes a file", "what is imported is named by its SHA-256: save it first")
    policy = _named(rules_at(path), who)
    shown = _Shown(as_json)
    with _opened(file) as data:
        store = _store(site, file, data) if imports else None
        capture, left_out = _read(file, data, policy, shown, store)
        if store is not None:
            store.end(capture, by_whom(), reason)
    shown.sum_up(str(file), capture, policy.revision, left_out, imports)


class _Shown:
    """What was found, as it is found: printed, or kept for one JSON document."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._listed: list[Found] = []
        self._count = 0

    def give(self, found: "Found") -> None:
        self._count += 1
        if not self._as_json:
            _print(found)
        elif len(self._listed) < MAX_LISTED:
            self._listed.append(found)

    def sum_up(self, file: str, capture: "Capture", revision: str, left_out: dict[str, int], imported: bool) -> None:
        more = self._count - len(self._listed)
        summary = Summary(
            file, capture.digest, capture.count, capture.cut, revision, self._listed, more, left_out, imported
        )
        if self._as_json:
            screen.json(summary)
        else:
            _sum_up(summary, self._count)


def _named(policy: Policy, who: str) -> Policy:
    from appliance.service.whatif import Named  # noqa: PLC0415

    names = [identity.name for identity in policy.identities]
    if who and who not in names:
        raise ConfigError(f"--who {who}", "is no identity", f"one of {', '.join(names)}" if names else "")
    return Named(policy, who)


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError(str(file), "is not a file", "- reads stdin")
        return open(fd, "rb")
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}", "name a pcap or pcapng file") from None


class _Store:
    """An import under way: the record of this host, or of a state directory without a hub."""

    def __init__(self, imports: "Imports", digest: str, name: str, sealed: bool) -> None:
        self.imports, self.source = imports, name
        self._digest, self._sealed = digest, sealed

    def end(self, capture: "Capture", by: str, reason: str) -> None:
        """Put it on record.

        Raises:
            HostError: the file changed meanwhile, so the sessions are not what it has.
        """
        same = capture.digest == self._digest
        of = self.source if same else f"{self.source}, which changed while it was read: they are of no file"
        self.imports.end(by, reason, of, self._sealed)
        if not same:
            raise HostError("the file changed while it was read", "import a copy of it, and ignore these sessions")


def _store(site: Site, file: Path, data: BinaryIO) -> _Store:
    from appliance.service.foreign.imports import Imports, source  # noqa: PLC0415
    from appliance.service.keys import signer  # noqa: PLC0415

    found = hashlib.sha256()
    while piece := data.read(PIECE):
        found.update(piece)
    data.seek(0)
    digest = found.hexdigest()
    state_dir = site.settings.state_dir
    if not state_dir.is_dir():
        raise No(f"{state_dir}: nothing is recorded here", "state_dir in the settings says where")
    try:
        imports = Imports(state_dir, signer(state_dir))
    except PermissionError:
        raise HostError(f"{state_dir} cannot be written", "only root imports: the record is the host's") from None
    return _Store(imports, digest, source(file, digest), not Hub(site.socket).is_up())


def _read(
    file: Path, data: BinaryIO, policy: Policy, shown: _Shown, store: _Store | None
) -> "tuple[Capture, dict[str, int]]":
    from appliance.service.foreign.capture import Capture  # noqa: PLC0415
    from appliance.service.foreign.flows import Flows  # noqa: PLC0415
    from appliance.service.foreign.found import Finder  # noqa: PLC0415
    from appliance.service.ids import Ids  # noqa: PLC0415

    finder = Finder(shown.give)
    sink = _Both(store.imports, finder) if store else finder
    next_id: Callable[[], str] = store.imports.next_id if store else Ids(0).next
    capture = Capture(data, str(file))
    flows = Flows(policy, store.source if store else str(file), next_id, sink)
    try:
        for caught in _progress(capture, file):
            flows.give(caught)
    except ConfigError as error:
        if not capture.count:
            raise
        screen.warn(str(error))  # what is before it was read, and is what there is
    flows.end()
    return capture, flows.counters


class _Both:
    """Two sinks in one."""

    def __init__(self, first: "Sink", second: "Sink") -> None:
        self._sinks = first, second

    def append(self, flow: Flow, notes: Sequence[Note], now: float, packet: int) -> None:
        for sink in self._sinks:
            sink.append(flow, notes, now, packet)


def _progress(capture: "Capture", file: Path) -> "Iterator[Caught]":
    """Pass frames on; on a terminal that shows nothing else, say how far it is."""
    shown, due = sys.stderr.isatty() and not sys.stdout.isatty(), 0.0
    try:
        for caught in capture:
            if shown and caught.number % 1000 == 0 and time.monotonic() >= due:
                due = time.monotonic() + screen.REDRAW_S
                click.echo(f"\r\033[K{screen.visible(str(file))}: {caught.number} frames", err=True, nl=False)
            yield caught
    finally:
        if shown:
            click.echo("\r\033[K", err=True, nl=False)


def _print(found: "Found") -> None:
    session = found.session
    spoken = session.protocol or found.transport
    head = f"{screen.moment(session.started)}  {found.client} -> {found.server}"
    target = f" ({screen.visible(session.target)})" if session.target else ""
    click.echo(f"{screen.strong(head)}{target}  {spoken}, {session.messages} messages, {screen.amount(session.bytes)}")
    for one in found.judged:
        verdict = click.style(f"{one.verdict:<8}", fg=COLOURS.get(one.verdict))
        click.echo(f"  {one.packet:>7}  {verdict} {screen.visible(one.rule):<20} {screen.visible(one.text)[:200]}")
        for key, values in one.facts.items():
            click.echo(screen.faint(f"{'':19}{key}: {screen.visible(' '.join(values))[:160]}"))
        if one.shadow:
            click.echo(screen.faint(f"{'':19}shadow: {screen.visible(' '.join(one.shadow))}"))
    if found.more:
        click.echo(f"  and {found.more} more requests")
    if session.verdicts:
        counts = " ".join(f"{screen.visible(rule)}:{count}" for rule, count in session.verdicts.items())
        click.echo(f"  rules {counts}" + (f"; {session.masked} cells masked" if session.masked else ""))
    for text in found.incidents:
        click.echo(f"  {click.style('!', fg='magenta')} {screen.visible(text)}")


def _sum_up(summary: Summary, sessions: int) -> None:
    done = "imported" if summary.imported else "judged"
    click.echo(f"\n{summary.frames} frames, {sessions} sessions {done} by {summary.revision}; sha256 {summary.sha256}")
    if summary.cut:
        click.echo("The file ends in the middle of a frame.")
    for why, count in sorted(summary.left_out.items(), key=lambda one: -one[1]):
        if not why.startswith("over: "):
            click.echo(f"  {count:>7}  {screen.visible(why)}")
