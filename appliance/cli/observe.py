"""`vendorgate observe`: the plaintext of a program that keeps to a pinned certificate, whose TLS cannot be opened."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import click
import msgspec

from appliance.cli import screen
from appliance.cli.fence import place
from appliance.cli.hub import Down, Hub
from appliance.cli.site import No, Site, pass_site
from appliance.cli.words import Length
from appliance.control.desk import Order
from appliance.kernel import cgroups
from appliance.kernel.observe import Observer, Plain, cgroup_of
from appliance.model import ConfigError, HostError
from appliance.policy.patterns import Paths
from appliance.record.text import stamp
from appliance.session.secret import veil_raw

LOOK_S = 0.5  # between looks for programs and libraries that were not there before
MAX_SHOWN = 100_000  # calls of one observation: nobody reads more, and it ends on a busy host
MAX_CONNECTIONS = 10_000  # with a number of their own


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A line of --json: one call."""

    event: Literal["call"] = "call"
    time: float
    pid: int
    program: str
    connection: int
    direction: Literal["write", "read"]
    size: int
    copied: int
    text: str


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """A line of --json: a file that is watched."""

    event: Literal["file"] = "file"
    path: str
    functions: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of --json."""

    event: Literal["end"] = "end"
    calls: int
    lost: int
    files: int


@click.command()
@click.argument("who", required=False, default="")
@click.option("--pid", type=click.IntRange(1), help="Only this process, which is in the slice.")
@click.option("--for", "length", type=Length(), default="60s", show_default=True, help="How long.")
@click.option("--reason", default="", help="Goes into the record.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document on a line of its own for each call.")
@pass_site
def observe(  # noqa: PLR0917  one parameter an option
    site: Site, who: str, pid: int | None, length: float, reason: str, as_json: bool
) -> None:
    """Show what a vendor's processes write and read inside TLS (root).

    For programs that refuse our certificate: what they hand to OpenSSL and get from it, by probes in the library, or in
    a program that has it built in (node). Nothing is changed, judged or masked, and nothing recorded but that you
    looked. Secrets of known forms are overwritten within each call.

    WHO is an identity of the rules, or a cgroup below the slice; globs allowed. An identity that is more than cgroups
    means the cgroups its processes are in now, and so what else is in them; which ones is printed. While vendorgate
    does not run, only cgroups are known. Not seen: TLS that is not OpenSSL's (Go, Java, GnuTLS, NSS), 32-bit programs,
    and what a program does in its first half second where its library is not this host's own. Meanwhile a call of
    such a library takes some microseconds more in any process; with --pid, in that one.

    \b
    vendorgate observe acme --for 5m --reason "ticket 4711"
    vendorgate observe --pid 4711 --json
    """
    if bool(who) == bool(pid):
        raise ConfigError("observe", "names nobody, or both somebody and a process", "vendorgate observe WHO, or --pid")
    if os.geteuid():
        raise HostError("only root may look into processes", "sudo vendorgate observe")
    top = place(site).cgroup
    # The end is opened before anything is asked about the process, so that it is one and the same all the time.
    with contextlib.ExitStack() as stack:
        end = stack.enter_context(_end(pid)) if pid else -1
        groups = _meant(site, who, pid or 0, f"{reason or 'no reason given'}, for {screen.span(length)}")
        observer = stack.enter_context(Observer([top / path if path else top for path in groups], pid or 0))
        _Show(observer, as_json).run(length, end)


class _Show:
    """Prints one observation."""

    def __init__(self, observer: Observer, as_json: bool) -> None:
        self._observer, self._as_json = observer, as_json
        self._numbers: dict[tuple[int, int], int] = {}  # of connections
        self._calls = self._files = self._refused = 0

    def run(self, length: float, end: int) -> None:
        """Print until time is over, `end` is readable, or somebody interrupts."""
        poll = select.poll()
        for fd in (self._observer.fd, *((end,) if end >= 0 else ())):
            poll.register(fd, select.POLLIN)
        now = time.monotonic()
        until, look = now + length, now
        with _until_told():
            while now < until and self._calls < MAX_SHOWN:
                if now >= look:
                    self._look()
                    look = time.monotonic() + LOOK_S
                ready = poll.poll(max(0.0, min(look, until) - time.monotonic()) * 1000)
                self._take()
                if any(fd == end for fd, _ in ready):
                    screen.warn("the process has ended")
                    break
                now = time.monotonic()
        self._observer.stop()
        while self._calls < MAX_SHOWN and self._take():
            pass
        self._ended()

    def _look(self) -> None:
        for file in self._observer.look():
            self._files += 1
            if self._as_json:
                screen.json_line(Probed(path=file.path, functions=file.functions))
            else:
                screen.warn(f"watching {screen.visible(file.path)}: {', '.join(file.functions)}")
        for text in self._observer.refused[self._refused :]:
            screen.warn(f"cannot be watched: {screen.visible(text)}")
        self._refused = len(self._observer.refused)

    def _take(self) -> int:
        calls = self._observer.consume()
        for plain in calls:
            self._calls += 1
            self._call(plain)
        return len(calls)

    def _call(self, plain: Plain) -> None:
        key = (plain.pid, plain.connection)
        if len(self._numbers) >= MAX_CONNECTIONS and key not in self._numbers:
            self._numbers.clear()
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        text = veil_raw(plain.data).decode("utf-8", "backslashreplace")
        if self._as_json:
            screen.json_line(
                Call(
                    time=plain.when, pid=plain.pid, program=plain.name, connection=number,
                    direction="write" if plain.sent else "read", size=plain.size, copied=len(plain.data), text=text,
                )
            )  # fmt: skip
            return
        what = "writes" if plain.sent else "reads"
        head = f"{screen.visible(plain.name)}[{plain.pid}] #{number} {what} {plain.size:,} bytes"
        click.echo(f"{screen.faint(stamp(plain.when))}  {screen.strong(head)}")
        for line in screen.visible_lines(text.replace("\r\n", "\n").removesuffix("\n")) if text else ():
            click.echo(f"  {line}")
        if len(plain.data) < plain.size:
            click.echo(screen.faint(f"  ({plain.size - len(plain.data):,} more bytes are not shown)"))

    def _ended(self) -> None:
        lost = self._observer.lost()
        if self._as_json:
            screen.json_line(Ended(calls=self._calls, lost=lost, files=self._files))
        if self._calls >= MAX_SHOWN:
            screen.warn(f"ended after {MAX_SHOWN:,} calls; a shorter --for, or --pid, shows less")
        if not self._files:
            screen.warn("no program there has an OpenSSL that can be seen")
        screen.warn(f"{self._calls:,} calls seen, {lost:,} lost")


@contextlib.contextmanager
def _until_told() -> Iterator[None]:
    """Let SIGINT and SIGTERM end what is in it, so that what was seen and lost is still told."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _end(pid: int) -> Iterator[int]:
    """Open what becomes readable when the process ends."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        raise HostError(f"process {pid}: {error.strerror}", "is it still running?") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _meant(site: Site, who: str, pid: int, reason: str) -> Sequence[str]:
    """Return the cgroups below the slice that are to be observed, once it is on record that they are."""
    top = place(site).cgroup
    if pid:
        found = cgroup_of(pid, top)
        if found is None:
            raise No(f"process {pid} is not in {place(site).slice}: it is nobody's that is governed")
        who = found
    try:
        answer = Hub(site.socket).contain(Order("observe", who, reason=reason, pid=pid))
    except Down:
        screen.warn("vendorgate is not running: that you look is not recorded")
        return [who] if pid else _matching(top, who)
    screen.warn(screen.visible(answer.text))
    return answer.cgroups


def _matching(top: Path, who: str) -> Sequence[str]:
    paths = Paths((who,))
    found = [path for path in cgroups.governed(top).values() if path and paths.match(path)]
    if not found:
        raise No(f"there is no cgroup `{who}`", "identities are known only while vendorgate runs")
    return found
