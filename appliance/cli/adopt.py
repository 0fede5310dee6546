"""`vendorgate adopt` and `vendorgate release`: putting an agent under control, and letting it go again."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from appliance.cli import agents, screen
from appliance.cli.site import No, Site, pass_site
from appliance.model import ConfigError, HostError
from appliance.service.adoption import Adoption, File, Keeper, Kind

F = TypeVar("F", bound=Callable[..., Any])
PATIENCE_S = 120.0  # for systemctl; a unit that is restarted may take its time to stop
ROOT = click.option("--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True)
WHO = (
    click.argument("unit", required=False),
    click.option("--user", "account", metavar="NAME", help="All services of an account, instead of one unit."),
    click.option("--container", metavar="NAME", help="A container of systemd-nspawn, podman or docker compose."),
)
HOW = (
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--restart", is_flag=True, help="Start it anew at once: what runs stays as it is until then."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document; without --yes a plan only."),
    ROOT,
)


class Told(msgspec.Struct, frozen=True):
    """The JSON form of what is done, or would be."""

    kind: str
    name: str
    slice: str
    done: bool
    files: tuple[dict[str, str | None], ...]  # path, before, after; null: not there
    units: tuple[str, ...]
    notes: tuple[str, ...]


def _with(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@_with(WHO)
@click.option("--as", "run_as", metavar="ACCOUNT", default="", help="Run it as this account from now on.")
@click.option("--write", metavar="PATH", multiple=True, help="It may write there; all else is read-only to it.")
@click.option("--loosen", metavar="KEY", multiple=True, help="Leave this line of the drop-in out, as ProtectSystem.")
@_with(HOW)
@pass_site
def adopt(
    site: Site, *, unit: str | None, account: str | None, container: str | None, run_as: str, write: tuple[str, ...],
    loosen: tuple[str, ...], yes: bool, restart: bool, as_json: bool, root: Path,
) -> None:  # fmt: skip
    """Put an agent under control: a service, an account's services, or a container (root).

    Writes a drop-in beside the unit, after showing the difference and asking. It puts the unit into the governed slice
    and takes from it what would lead round the fence: capabilities, packet sockets, namespaces, the sockets of engines
    and managers. It takes effect when the unit starts again. `vendorgate release` puts all back exactly as it was.

    Without a name it lists who is adopted.

    \b
    vendorgate adopt acme.service --restart
    vendorgate adopt acme.service --as acme --write /var/lib/acme
    vendorgate adopt --user acme
    vendorgate adopt --container acme
    """
    keeper = Keeper(site.settings.state_dir, root)
    if not (unit or account or container):
        _list(keeper, as_json)
        return
    host = agents.Host(root, site.settings.slice)
    plan = keeper.planned(_plan(host, _who(unit, account, container), agents.Wishes(run_as, write, loosen)))
    changes = [(file.path, _now(keeper, file), file.after) for file in plan.files]
    if all(before == after for _, before, after in changes) and keeper.find(plan.kind, plan.name):
        _tell(plan, changes, True, as_json)
        said = f"{plan.name} is adopted already"
    elif _agreed(plan, changes, f"Put {plan.name} into {plan.slice}?", yes=yes, as_json=as_json, root=root):
        _put(keeper, plan, root)
        said = f"{plan.name} is adopted; undone by: vendorgate release {_words(plan)}"
    else:
        return
    if not as_json:
        click.echo(said)
    _begin(plan, root, restart, as_json, "free")


@click.command()
@_with(WHO)
@_with(HOW)
@pass_site
def release(
    site: Site, *, unit: str | None, account: str | None, container: str | None, yes: bool, restart: bool,
    as_json: bool, root: Path,
) -> None:  # fmt: skip
    """Let an agent go that was adopted: every file is put back exactly as it was (root).

    Shows the difference and asks. The agent stays governed until it starts again.

    \b
    vendorgate release acme.service --restart
    vendorgate release --user acme
    """
    keeper = Keeper(site.settings.state_dir, root)
    kind, name = _who(unit, account, container)
    name = f"{name}.service" if kind == "unit" and not name.endswith(".service") else name
    adoption = keeper.find(kind, name)
    if adoption is None:
        raise No(f"{name} is not adopted", "vendorgate adopt lists who is")
    changes = [
        (file.path, _now(keeper, file), file.before.text if file.before else None) for file in adoption.files
    ]
    if not _agreed(adoption, changes, f"Let {name} out of {adoption.slice}?", yes=yes, as_json=as_json, root=root):
        return
    keeper.release(adoption)
    _systemctl(root, "daemon-reload")
    if not as_json:
        click.echo(f"{name} is released")
    _begin(adoption, root, restart, as_json, "governed")


def _now(keeper: Keeper, file: File) -> str | None:
    """Return what a file says now, None if it is not there."""
    found = keeper.look(file.path)
    return found.text if found else None


def _put(keeper: Keeper, plan: Adoption, root: Path) -> None:
    """Write the files; if systemd does not follow them, all is as it was: who was adopted is it still."""
    old = keeper.find(plan.kind, plan.name)
    keeper.adopt(plan)
    try:
        _reload(plan, root)
    except HostError:
        if old:
            keeper.adopt(old)
        else:
            keeper.release(keeper.find(plan.kind, plan.name) or plan)
        with suppress(HostError):  # what failed first is told
            _systemctl(root, "daemon-reload")
        raise


def _who(unit: str | None, account: str | None, container: str | None) -> tuple[Kind, str]:
    given: list[tuple[Kind, str]] = []
    for kind, name in (("unit", unit), ("user", account), ("container", container)):
        if name:
            given.append((kind, name))  # type: ignore[arg-type]
    if len(given) != 1:
        raise click.UsageError("name one: UNIT, --user NAME or --container NAME")
    return given[0]


def _plan(host: agents.Host, who: tuple[Kind, str], wishes: agents.Wishes) -> Adoption:
    match who:
        case ("unit", name):
            return agents.unit(host, name, wishes)
        case ("user", name):
            return agents.user(host, name, wishes)
        case (_, name):
            if wishes != agents.Wishes():
                raise click.UsageError("--as, --write and --loosen are for services")
            return agents.container(host, name)


Changes = Sequence[tuple[str, str | None, str | None]]


def _agreed(plan: Adoption, changes: Changes, question: str, *, yes: bool, as_json: bool, root: Path) -> bool:
    """Show what would be done, and return whether it shall be."""
    _tell(plan, changes, yes, as_json)
    if as_json and not yes:
        return False
    if root == Path("/") and os.geteuid() != 0:
        raise HostError("only root can write units", "sudo vendorgate ...")
    if yes:
        return True
    try:
        agreed = click.confirm(question)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo()
        raise ConfigError("--yes", "is missing, and nobody answers", "say --yes, or run it on a terminal") from None
    if not agreed:
        raise No("nothing was changed")
    return True


def _tell(plan: Adoption, changes: Changes, done: bool, as_json: bool) -> None:
    if as_json:
        files = tuple({"path": f"/{path}", "before": before, "after": after} for path, before, after in changes)
        screen.json(Told(plan.kind, plan.name, plan.slice, done, files, plan.units, plan.notes))
        return
    for path, before, after in changes:
        for line in _difference(path, before, after):
            click.echo(line)
    for note in plan.notes:
        screen.warn(click.style("! ", fg="yellow", bold=True) + screen.visible(note))


def _difference(path: str, before: str | None, after: str | None) -> Iterator[str]:
    """Yield the lines of a unified diff."""
    was, becomes = (f"/{path}" if text is not None else "/dev/null" for text in (before, after))
    old, new = ((text or "").splitlines() for text in (before, after))
    for line in unified_diff(old, new, was, becomes, lineterm=""):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        yield click.style(screen.visible(line), fg=colour)


def _reload(plan: Adoption, root: Path) -> None:
    """Have systemd read the files, and see that it says what they do."""
    _systemctl(root, "daemon-reload")
    for unit in plan.units:
        said = _systemctl(root, "show", "--property=Slice", "--value", unit)
        if said not in ("", plan.slice):
            what = f"{unit} would still be in {said}: another file of it comes later"
            raise HostError(what, f"systemctl cat {unit} shows them; nothing was changed")


def _begin(plan: Adoption, root: Path, restart: bool, as_json: bool, still: str) -> None:
    """Start again what runs, if that is wanted; else say that it is as before."""
    running = [unit for unit in plan.units if _systemctl(root, "is-active", unit, check=False) == "active"]
    if running and restart:
        _systemctl(root, "restart", *running)
        if not as_json:
            click.echo(f"started anew: {' '.join(running)}")
    elif running and not as_json:
        click.echo(f"still {still} until it starts again: systemctl restart {' '.join(running)}")


def _systemctl(root: Path, *words: str, check: bool = True) -> str:
    """Return what systemctl says; another root than ours has nobody to tell."""
    if root != Path("/"):
        return ""
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise HostError("systemctl is not there", "adopt needs a host with systemd; else: vendorgate exec") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"systemctl {' '.join(words)} took over {PATIENCE_S:.0f} s", "systemctl list-jobs") from None
    if check and done.returncode:
        raise HostError(f"systemctl {' '.join(words)}: {done.stderr.strip()}", "is systemd running here?")
    return done.stdout.strip()


def _list(keeper: Keeper, as_json: bool) -> None:
    found = keeper.all()
    if as_json:
        screen.json([{"kind": one.kind, "name": one.name, "slice": one.slice, "at": one.at} for one in found])
    elif not found:
        click.echo("nobody is adopted: vendorgate adopt acme.service")
    else:
        rows = [(one.kind, screen.visible(one.name), one.slice, screen.moment(one.at)) for one in found]
        screen.table(("kind", "name", "slice", "since"), rows)


def _words(plan: Adoption) -> str:
    return plan.name if plan.kind == "unit" else f"--{plan.kind} {plan.name}"
