"""`vendorgate init`: the first rules for an agent, asked for or by flags."""

import os
import re
from pathlib import Path

import click

from appliance import config
from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.config.places import NAME
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.model import ConfigError, HostError
from appliance.service import rulebook, starter
from appliance.service.identities import nowhere, policy
from appliance.service.starter import PURPOSES, Server, Starter, Wishes

FILE = click.Path(path_type=Path, dir_okay=False)
ANSWERS = click.Choice(tuple(PURPOSES))


@click.command()
@click.option("--name", help="What the agent is called in rules, as acme.")
@click.option("--unit", help="Its unit, or cgroup below the slice; * may stand for anything.  [default: NAME.service]")
@click.option("--target", "targets", multiple=True, metavar="[NAME=]PROTOCOL:HOST:PORT", help="A server; repeatable.")
@click.option("--may", type=ANSWERS, help="What it may do there.")
@click.option("--reviewers", metavar="GROUP", help="Who releases what is held.  [default: ops]")
@click.option("--mask/--no-mask", default=None, help="Hide personal data in results.  [default: mask]")
@click.option("-o", "--output", type=FILE, help="Where it goes.  [default: 50-NAME.yaml in rules.d]")
@click.option("--yes", is_flag=True, help="Ask nothing: what no flag says is the default.")
@click.option("--json", "as_json", is_flag=True, help="Print the files as one JSON document, and write nothing.")
@pass_site
def init(
    site: Site, *, name: str | None, unit: str | None, targets: tuple[str, ...], may: str | None, reviewers: str | None,
    mask: bool | None, output: Path | None, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the first rules for an agent, with comments and tests.

    Asks who it is, which servers it may speak to, and what it may do there; flags answer beforehand. The rules come
    from the packs that ship and are yours to edit. Nothing is overwritten. A file in rules.d is in force as soon as it
    is written, for agents in the slice: `vendorgate adopt` puts them there.

    \b
    vendorgate init
    vendorgate init --name acme --target orders-db=postgres:db.internal:5432 --may read-only --yes
    vendorgate init --name acme --target http:api.example:443 --may hygiene --reviewers ops -o acme.yaml
    """
    quiet = yes or as_json
    wishes = _asked(name, unit, targets, may=may, reviewers=reviewers, mask=mask, quiet=quiet)
    made = starter.starter(wishes)
    path = output or site.settings.rules / f"50-{wishes.name}.yaml"
    tests = path.with_name(path.stem + rulebook.TESTS)
    for file in (path, tests) if not as_json else ():
        if os.path.lexists(file):
            raise ConfigError(str(file), "is there already, and yours", "-o writes elsewhere; --name makes another")
    count = _prove(site, made, path)
    if as_json:
        screen.json([{"path": str(path), "text": made.rules}, {"path": str(tests), "text": made.tests}])
        return
    if not quiet and not click.confirm(f"\nWrite {path}?", default=True):
        raise No("nothing was written")
    _write(tests, made.tests)  # first: rules in force have their tests
    _write(path, made.rules)
    click.echo(f"{path}: {count} tests, all as expected")
    click.echo(f"{_next(wishes)}\nlook at what it does:       vendorgate sessions --who {wishes.name}")


def _asked(
    name: str | None, unit: str | None, targets: tuple[str, ...], *, may: str | None, reviewers: str | None,
    mask: bool | None, quiet: bool,
) -> Wishes:  # fmt: skip
    """Return the wishes, asking for what no flag said."""
    if quiet and not name:
        raise click.UsageError("--name says what the agent is called")
    name = name or _ask("What is the agent called", "acme")
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name {name}", "is not a name", "letters, digits, `.`, `_` and `-`, at most 64")
    unit = unit or (f"{name}.service" if quiet else _ask("Its unit, or cgroup below the slice", f"{name}.service"))
    if unit.startswith("/") or any(part in ("", ".", "..") for part in unit.split("/")):
        raise ConfigError(f"--unit {unit}", "is not a path below the slice", f"write it as in {name}.service")
    servers = [starter.server(text) for text in targets]
    while not quiet and not targets and (text := _ask(_WHERE if not servers else "Another, or nothing", "")):
        servers += _server(text)
    if len({one.name for one in servers}) < len(servers):
        raise ConfigError("--target", "two servers have one name", "give them names: orders=postgres:10.0.3.2:5432")
    if not servers:
        may = "nothing"
    if not may and not quiet:
        for purpose, says in PURPOSES.items():
            click.echo(f"  {screen.strong(purpose):<12} {says}")
    may = may or ("read-only" if quiet else click.prompt("What may it do there", "read-only", type=ANSWERS))
    if not reviewers and may == "hygiene" and not quiet:
        reviewers = _ask("Who releases what is held (a group of this host)", "ops")
    if mask is None:
        mask = quiet or may == "nothing" or click.confirm("Hide personal data in results?", default=True)
    return Wishes(name, unit, tuple(servers), may, reviewers or "ops", mask)


_WHERE = "A server it may speak to, as postgres:db.internal:5432 (nothing: none yet)"


def _ask(question: str, default: str) -> str:
    return str(click.prompt(question, default=default, show_default=bool(default))).strip()


def _server(text: str) -> list[Server]:
    try:
        return [starter.server(text)]
    except ConfigError as error:
        screen.warn(str(error))
        return []


def _prove(site: Site, made: Starter, path: Path) -> int:
    """Have the engine read the rules beside those in force, and run their tests alone; return how many there are."""
    alone = config.rules([(path.name, made.rules)], nowhere())
    files = [(path.stem + rulebook.TESTS, made.tests)]
    done = config.run(alone, files, lambda name: open_reader(name, Shared(), needs_catalog=False))
    wrong = [result for result in done if not result.ok]
    if wrong:
        raise AssertionError(f"a test of the starter fails: {wrong[0].name}: {wrong[0].why}")
    if site.settings.rules.is_dir() and path.parent.resolve() == site.settings.rules.resolve():
        policy(site.settings.rules, ((f"{path.parent.name}/{path.name}", made.rules),))
    return len(done)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.rename(path)
    except PermissionError:
        raise HostError(f"{path}: permission denied", "sudo vendorgate init ..., or -o to write elsewhere") from None


def _next(wishes: Wishes) -> str:
    unit = wishes.cgroup if re.fullmatch(r"[^/*]+\.service", wishes.cgroup) else ""
    adopt = f"vendorgate adopt {unit}" if unit else f"vendorgate exec --identity {wishes.name} -- COMMAND"
    learn = f"\nfind out what it needs:     vendorgate learn --for 1h --who {wishes.name} --open"
    return f"put it under control:       {adopt}" + (learn if wishes.may == "nothing" else "")
