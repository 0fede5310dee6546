"""`vendorgate status` and `vendorgate reload`."""

import os
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from appliance.cli import screen
from appliance.cli.hub import Down, Hub
from appliance.cli.site import Site, pass_site
from appliance.control.desk import Status
from appliance.model import HostError

HIDDEN = ("ledger", "looked")  # of coverage: shown apart, or of no use to people
COLUMNS = ("flows", "passed", "taken", "untaken", "lost", "direct", "dropped", "flows_left", "bytes_left")
TITLES = {"flows_left": "-flows", "bytes_left": "-bytes"}  # the difference
LINES = 20  # of the ledger


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def status(site: Site, as_json: bool) -> int:
    """Tell what is in force now.

    Exit status 0 when governed processes are served and nothing is wrong with it, 1 otherwise; also when
    vendorgate does not run, and then the state of the fence is told all the same.

    \b
    vendorgate status
    vendorgate status --json | jq .losses
    """
    try:
        found = Hub(site.socket).status()
    except Down as down:
        found = Status(ready=False, fence=_fence(site), problems=(down.what, *_opened(site)))
    if as_json:
        screen.json(found)
    else:
        _print(found)
    return 0 if found.ready else 1


@click.command()
@pass_site
def reload(site: Site) -> None:
    """Put the rules on disk in force.

    They are checked as a whole first: a wrong file changes nothing, and the error says file and line. Live
    sessions are judged by the new rules from their next message on. Saved files are also taken up without
    this.

    \b
    vendorgate reload
    """
    click.echo(f"rules {Hub(site.socket).reload()} are in force")


def _fence(site: Site) -> Mapping[str, Any]:
    """Return what the kernel says of the fence, for whoever may ask it."""
    from appliance.cli.fence import in_force  # noqa: PLC0415  needed only when the hub is down

    if os.geteuid() != 0:
        return {"up": None, "why": "only root can ask the kernel"}
    try:
        return dict(msgspec.to_builtins(in_force(site)))
    except (HostError, OSError) as error:
        return {"up": None, "why": str(error)}


def _opened(site: Site) -> tuple[str, ...]:
    """Return the mark that the last stop left, if it took the fence away."""
    from appliance.service.opened import found  # noqa: PLC0415  needed only when the hub is down

    mark = found(site.settings.state_dir)
    return (f"{mark}: governed processes are FREE",) if mark else ()


def _print(found: Status) -> None:
    state = click.style("ready", fg="green") if found.ready else click.style("not ready", fg="red", bold=True)
    since = f" since {screen.moment(found.started)}" if found.started else ""
    click.echo(f"vendorgate {found.version}".rstrip() + f": {state}{since}")
    if found.rules_revision:
        _line("rules", found.rules_revision)
    _figures("fence", found.fence)
    _coverage(found.coverage)
    _figures("workers", found.workers)
    _figures("engine", found.engine)
    _figures("losses", found.losses)
    if found.frozen:
        _line("frozen", screen.visible(", ".join(found.frozen)))
    if found.ready:
        _line("waiting", f"{found.pending} for a reviewer")
    if found.rules_error and not any(found.rules_error in text for text in found.problems):
        problem("the rules on disk are not in force:\n" + found.rules_error)
    for text in found.problems:
        problem(text)


def _coverage(coverage: Mapping[str, Any]) -> None:
    """Print figures, and a line of the ledger for each cgroup, those with a difference first and in red."""
    _figures("coverage", {name: figure for name, figure in coverage.items() if name not in HIDDEN})
    ledger = coverage.get("ledger") or {}
    if ledger:
        titles = [TITLES.get(name, name).rjust(10) for name in COLUMNS]
        click.echo("  " + screen.faint(" " * 24 + "".join(titles)))
    for name, line in list(ledger.items())[:LINES]:
        wrong = line.get("flows_left", 0) or line.get("bytes_left", 0)
        figures = "".join(f"{line.get(column, 0):>10}" for column in COLUMNS)
        text = f"{screen.visible(name)[:23]:<24}{figures}"
        click.echo("  " + (click.style(text, fg="red", bold=True) if wrong else text))
    if len(ledger) > LINES:
        click.echo(screen.faint(f"  {len(ledger) - LINES} more cgroups: --json"))


def problem(text: str) -> None:
    """Print what is wrong."""
    first, *rest = screen.visible_lines(text)
    click.echo(click.style("! ", fg="red", bold=True) + first)
    for line in rest:
        click.echo(f"  {line}")


def _figures(name: str, figures: Mapping[str, Any]) -> None:
    if figures:
        _line(name, _listed(figures) or "none")


def _listed(figures: Mapping[str, Any]) -> str:
    """Return figures in a line; counts of zero say nothing to a reader, and are in the JSON."""
    return ", ".join(
        f"{_plain(key)} {_figure(value)}" for key, value in figures.items() if value is False or value != 0
    )


def _figure(value: Any) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else click.style("no", fg="red")
        case dict():
            return f"({_listed(value)})"
        case list() | tuple():
            return " ".join(map(_figure, value)) or "none"
        case _:
            return screen.visible(str(value))


def _plain(name: str) -> str:
    return screen.visible(str(name)).replace("_", " ")


def _line(name: str, text: str) -> None:
    click.echo(f"  {screen.faint(f'{name:<9}')} {text}")
