"""`vendorgate rules`: everything about rules that needs no running appliance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import click
import msgspec

from appliance import config
from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.cli.texts import rules_at, text
from appliance.facts import Facts
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.facts.words import PROTOCOLS
from appliance.model import Address, ConfigError, Decision, Message, Place, Process, Side
from appliance.policy import Policy, Step, explain
from appliance.policy.rule import TRANSPORTS
from appliance.service import rulebook

COLOURS = {"match": "green", "unknown": "yellow"}
PATH = click.argument("path", required=False, type=click.Path(path_type=Path))
WHERE = click.option(
    "--rules", "path", type=click.Path(path_type=Path), help="Directory or file instead of rules.d."
)


@click.group()
def rules() -> None:
    """Validate, test and explain rules.

    Rules are the *.yaml files of the directory that the settings name, read in the order of their names.

    \b
    vendorgate rules check
    vendorgate rules test
    vendorgate rules explain --who acme --to orders-db "drop table orders"
    """


@rules.command()
@PATH
@pass_site
def check(site: Site, path: Path | None) -> None:
    """Validate rules; the first mistake is told with file, line and a hint.

    PATH is a directory or a file; without it, the directory in force. Exit status 2 if they are wrong.

    \b
    vendorgate rules check
    vendorgate rules check ./rules.d
    """
    policy = _policy(site, path)
    counts = (
        f"rules: {len(policy.rules)}, identities: {len(policy.identities)}, targets: {len(policy.targets)}"
    )
    click.echo(f"{counts}, default: {policy.default}, revision: {policy.revision}")


@rules.command()
@PATH
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def test(site: Site, path: Path | None, as_json: bool) -> None:
    """Run the tests beside the rules (*.test.yaml) on the real engine.

    Exit status 1 if one fails.

    \b
    vendorgate rules test
    vendorgate rules test ./rules.d
    """
    policy = _policy(site, path)
    results = config.run(
        policy, _tests(path or site.settings.rules), lambda name: open_reader(name, Shared(), needs_catalog=False)
    )
    failed = [result for result in results if not result.ok]
    if as_json:
        screen.json([{"ok": r.ok, **msgspec.structs.asdict(r)} for r in results])
    for result in () if as_json else failed:
        name, why = screen.visible(result.name), screen.visible(result.why)
        click.echo(f"{click.style('FAIL', fg='red')} {result.where}: {name}\n     {why}")
    if failed:
        raise No(f"{len(failed)} of {len(results)} tests failed")
    if not as_json:
        click.echo(f"{len(results)} tests, all as expected" if results else "no tests (*.test.yaml) here")


class Explained(msgspec.Struct, frozen=True):
    """The JSON form of an explanation."""

    decision: Decision
    steps: list[Step]
    facts: dict[str, list[str]]
    unknown: list[str]
    why: str


@rules.command("explain")
@click.argument("statement")
@click.option("--who", help="Name of an identity.")
@click.option("--cgroup", default="", help="Instead of --who: the process, by its cgroup below the slice ...")
@click.option("--exe", default="", help="... and its executable.")
@click.option("--uid", type=click.IntRange(0, 2**32 - 2), default=0, help="... and its user.")
@click.option("--to", help="Target, or address:port; the only target if there is but one.")
@click.option("--protocol", help="Of the statement, where the target has none.")
@click.option("--before", multiple=True, help="A statement sent earlier in the session; may be repeated.")
@WHERE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def explain_(  # noqa: PLR0917  click passes them by name
    site: Site,
    statement: str,
    who: str | None,
    cgroup: str,
    exe: str,
    uid: int,
    to: str | None,
    protocol: str | None,
    before: tuple[str, ...],
    path: Path | None,
    as_json: bool,
) -> None:
    """Tell why a statement would be judged so: each rule in order, and what of it holds.

    Nothing is sent anywhere: names are taken as they are written, with the usual search_path. What a view or a
    trigger adds, only the database's catalogue tells the running appliance.

    \b
    vendorgate rules explain --who acme --to orders-db "drop table orders"
    vendorgate rules explain --cgroup acme.service --exe /usr/bin/psql "select ssn from users"
    """
    policy = _policy(site, path)
    server, spoken = _target(policy, to)
    speaks = protocol or spoken or "postgres"
    facts = _facts(speaks, statement, before)
    server = Place(server.host, server.port, TRANSPORTS.get(speaks, ("tcp",))[0])
    if who is not None and (cgroup or exe):
        raise click.UsageError("either --who, or --cgroup and --exe")
    names = _named(policy, who) if who else policy.identify(Process(1, 1, exe, (), cgroup, uid))
    decision = policy.decide(names, server, facts)
    steps = explain(policy, names, server, facts)
    if as_json:
        known = {key: sorted(values) for key, values in facts.values.items()}
        screen.json(Explained(decision, steps, known, sorted(facts.unknown), facts.why))
    else:
        _print(decision, steps, facts)


@rules.command()
@click.argument("of", type=click.Choice(["rules", "tests", "settings"]), default="rules")
def schema(of: str) -> None:
    """Print the JSON Schema of rules files, of their tests, or of vendorgate.yaml, for an editor.

    \b
    vendorgate rules schema > rules.schema.json
    """
    screen.json(config.schema(cast(Literal["rules", "tests", "settings"], of)))


def _policy(site: Site, path: Path | None) -> Policy:
    return rules_at(path or site.settings.rules)


def _tests(path: Path) -> Sequence[tuple[str, str]]:
    """Read the tests of a directory, or those beside one file: `10-db.test.yaml` for `10-db.yaml`."""
    found = path.glob(f"*{rulebook.TESTS}") if path.is_dir() else path.parent.glob(path.stem + rulebook.TESTS)
    return [(str(file), text(file)) for file in sorted(found)]


def _target(policy: Policy, to: str | None) -> tuple[Address, str]:
    """Return an address of what `to` names, and the protocol spoken there."""
    named = {target.name: target for target in policy.targets}
    if to is None and len(named) == 1:
        to = next(iter(named))
    if to is None:
        raise click.UsageError(f"--to says where it is sent: {', '.join(named) or 'address:port'}")
    if to in named:
        if not named[to].nets:
            raise ConfigError(
                f"--to {to}", "has no address: its name cannot be resolved", "give address:port"
            )
        net = named[to].nets[0]
        return Address.of(str(net.network.network_address), net.low or 1), named[to].protocol
    host, _, port = to.rpartition(":")
    try:
        server = Address.of(host.strip("[]"), int(port))
    except ValueError:
        hint = f"one of {', '.join(named)}, or address:port" if named else "write address:port"
        raise ConfigError(f"--to {to}", "is no target and no address", hint) from None
    found = policy.target(server)
    return server, found.protocol if found else ""


def _named(policy: Policy, who: str) -> tuple[str, ...]:
    names = [identity.name for identity in policy.identities]
    if who not in names:
        raise ConfigError(f"--who {who}", "is no identity", f"one of {', '.join(names)}" if names else "")
    return (who,)


def _facts(protocol: str, statement: str, before: Sequence[str]) -> Facts:
    try:
        reader = open_reader(protocol, Shared(), needs_catalog=False)
    except (KeyError, ValueError):
        raise ConfigError(f"--protocol {protocol}", "is not known", f"one of {', '.join(PROTOCOLS)}") from None
    for said in before:
        earlier = Message(Side.CLIENT, "query", b"", text=said)
        reader.ask(earlier)
        reader.sent(earlier)
    facts = reader.ask(Message(Side.CLIENT, "query", b"", text=statement))
    if facts is None:
        raise ConfigError("STATEMENT", "asks for nothing", "write one as a client would send it")
    return facts


def _print(decision: Decision, steps: Sequence[Step], facts: Facts) -> None:
    for key, values in sorted(facts.values.items()):
        if key != "text" and (values or key in facts.unknown):
            more = " and more" if key in facts.unknown else ""
            click.echo(f"  {key:<10} {screen.visible(' '.join(sorted(values)))}{more}")
    if facts.why:
        click.echo(f"  {'unknown':<10} {screen.visible(facts.why)}")
    click.echo()
    for step in steps:
        mark = click.style("->", bold=True) if step.decides else "  "
        outcome = click.style(
            f"{step.outcome:<11}", fg=COLOURS.get(step.outcome), dim=step.outcome == "not reached"
        )
        shadow = " (shadow)" if step.shadow else ""
        rule = f"{step.do:<8} {screen.visible(step.rule):<24}"
        click.echo(f"{mark} {rule} {outcome} {screen.visible(step.why)}{shadow}")
    because = f": {screen.visible(decision.reason)}" if decision.reason else ""
    click.echo(f"\n{screen.strong(decision.verdict)} by {screen.visible(decision.rule)}{because}")
