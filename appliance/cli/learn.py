"""`vendorgate learn`: least-privilege rules out of what an agent does, proposed and never put in force."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from appliance import config
from appliance.cli import screen
from appliance.cli.hub import Hub
from appliance.cli.site import No, Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import Length, Moment
from appliance.model import ConfigError, HostError
from appliance.policy import Policy
from appliance.record.session import Filter
from appliance.service import opening, rulebook
from appliance.service.identities import DOCUMENTATION
from appliance.service.learning import Learner, Proposal

MAX_SESSIONS = 10_000  # as many as the hub lists at once
TICK_S = 0.5


@click.command()
@click.option("--for", "watch_s", type=Length(), help="Watch for so long: 15m, 1h, 2d. Ctrl-C ends it early.")
@click.option("--since", type=Moment(), help="Learn from what is recorded already: 1h, 2d ago, or a date.")
@click.option("--who", default="", help="Only this identity, or cgroup below the slice.")
@click.option("--to", default="", help="Only this target, address or address:port.")
@click.option("--open", "open_up", is_flag=True, help="Let --who by while it is watched: what no rule decides passes.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write FILE.yaml and its tests.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def learn(
    site: Site, *, watch_s: float | None, since: float | None, who: str, to: str, open_up: bool, output: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Propose least-privilege rules for what an agent does, with tests.

    Watches what is recorded and prints rules that allow just that: which program, to which server, which effects on
    which tables, paths or keys. Nothing is put in force: read the proposal, put it into rules.d, and take the wider
    rules out. It is made of what was allowed, and of what was refused only because no rule spoke of it.

    An agent that may do nothing yet shows little. With --open it is let by while it is watched: rules still block, hold
    and mask, but what none decides passes. That ends with the watching, also when this command is killed.

    \b
    vendorgate learn --for 1h --who acme.service --open -o acme.yaml
    vendorgate learn --since 7d --who acme > acme.yaml
    vendorgate rules check acme.yaml && vendorgate rules test acme.yaml
    """
    if (watch_s is None) == (since is None):
        raise click.UsageError("say how: --for 1h watches from now on, --since 1d reads what is recorded")
    if open_up and (not who or watch_s is None):
        raise click.UsageError("--open needs --for, and --who to say who is let by")
    _refuse_rules_d(site, output)
    texts = rulebook.read(site.settings.rules).texts
    force = config.rules(texts, Resolve())
    begun = time.time() if since is None else since
    if watch_s is not None:
        _watch(site, force, watch_s, who if open_up else "", as_json)
    learner = Learner()
    record = source(site)
    found = record.sessions(Filter(who=who, to=to, since=begun, limit=MAX_SESSIONS))
    for session in reversed(found):
        learner.session(record.frames(session.id))
    if len(found) == MAX_SESSIONS:
        screen.warn(f"the newest {MAX_SESSIONS} sessions; there may be more: --who, --to")
    proposal = learner.proposal(force, texts)
    _tell(proposal, output, as_json)


def _refuse_rules_d(site: Site, output: Path | None) -> None:
    if output is None:
        return
    if output.resolve().parent == site.settings.rules.resolve():
        what = "is where rules are in force as soon as they are saved"
        raise ConfigError(f"-o {output}", what, "write it elsewhere, read it, then move it there")
    if output.suffix != ".yaml":
        raise ConfigError(f"-o {output}", "does not end with .yaml", f"-o {output.with_suffix('.yaml')}")


def _watch(site: Site, force: Policy, watch_s: float, who: str, quiet: bool) -> None:
    """Wait, and let `who` by meanwhile, if it is not empty."""
    if not Hub(site.socket).is_up():
        raise HostError("vendorgate is not running: nothing is recorded", "systemctl start vendorgate")
    until = time.time() + watch_s
    with contextlib.ExitStack() as stack:
        if who:
            known = who in {identity.name for identity in force.identities}
            stack.enter_context(_opened(site, who, known, until))
        for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: a terminal that is closed ends it
            signal.signal(number, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            while (left := until - time.time()) > 0:
                if sys.stderr.isatty() and not quiet:
                    click.echo(f"\r\033[Kwatching for {screen.span(left)}; Ctrl-C ends it", err=True, nl=False)
                time.sleep(min(TICK_S, left))
        if sys.stderr.isatty() and not quiet:
            click.echo("\r\033[K", err=True, nl=False)


@contextlib.contextmanager
def _opened(site: Site, who: str, known: bool, until: float) -> Iterator[None]:
    try:
        path = opening.put(site.settings.rules, who, known, until)
    except PermissionError:
        raise HostError(f"{site.settings.rules}: only root may let somebody by", "sudo vendorgate learn ...") from None
    except OSError as error:
        raise HostError(f"{site.settings.rules}: {error.strerror}", "make room, or the directory") from None
    try:
        Hub(site.socket).reload()
        screen.warn(f"vendorgate: {who} is let by for {screen.span(until - time.time())}, and recorded ({path})")
        yield
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(HostError):  # without a hub nobody is let by
            Hub(site.socket).reload()


class Resolve:
    """Addresses of names; one that does not resolve has an address nobody has."""

    def __init__(self) -> None:
        self._names, self._unknown = rulebook.Names(), 0

    def __call__(self, name: str) -> Sequence[str]:
        try:
            return self._names.resolve(name)
        except OSError:
            self._unknown += 1
            return (str(DOCUMENTATION + self._unknown),)


def _tell(proposal: Proposal, output: Path | None, as_json: bool) -> None:
    if output:
        output.write_text(proposal.rules)
        tests = output.with_name(output.stem + rulebook.TESTS)
        tests.write_text(proposal.tests)
    if as_json:
        screen.json(msgspec.to_builtins(proposal))
    elif not output and proposal.proposed:
        click.echo(proposal.rules, nl=False)
    seen = f"{proposal.requests} requests in {proposal.sessions} sessions"
    for text in proposal.untold:
        screen.warn(f"not proposed: {screen.visible(text)}")
    if proposal.refused:
        screen.warn(f"not proposed: {proposal.refused} requests that rules refuse")
    if not proposal.proposed and not as_json:
        raise No(f"{seen}: nothing to make rules of", "is the agent at work, and adopted? vendorgate sessions shows it")
    screen.warn(f"{proposal.proposed} rules out of {seen}; none is in force")
    if output:
        screen.warn(f"read {output}, try it: vendorgate rules test {output}")
