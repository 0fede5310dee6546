"""`vendorgate whatif`: recorded sessions judged by other rules."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli import screen
from appliance.cli.filters import filters, wanted
from appliance.cli.site import No, Site, Source, pass_site
from appliance.cli.store import source
from appliance.cli.texts import rules_at
from appliance.model import HostError
from appliance.policy import Policy
from appliance.record.session import Session

if TYPE_CHECKING:
    from appliance.service.whatif import Change, Report

MAX_SESSIONS = 10_000  # judged at once; as many as the hub lists. More, by --until
HEAD = ("CHANGE", "COUNT", "RULE", "BEFORE", "WHO", "TO", "CELLS")
COLOURS = {"newly blocked": "red", "newly held": "yellow", "newly allowed": "green", "newly masked": "cyan",
           "no longer masked": "magenta"}  # fmt: skip


@click.command()
@click.option("--rules", "path", required=True, type=click.Path(path_type=Path, exists=True),
              help="Directory or file of the rules to judge by.")  # fmt: skip
@filters
@click.option("--limit", type=click.IntRange(1, MAX_SESSIONS), default=1000, show_default=True,
              help="At most so many sessions, the newest.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def whatif(site: Site, /, path: Path, limit: int, as_json: bool, **given: Any) -> None:
    """Judge recorded sessions by other rules, and tell what would change.

    Each recorded request is judged again on the real engine, as if all before it had gone as it did; so a change
    is about that request, not about what a program would have done after it. Sessions are found as `sessions`
    finds them. What cannot be told from the record is counted too: texts where only metadata was kept, values that
    were masked when they were recorded, answers to what was refused. What the kernel alone let by or refused was
    never recorded. Names in statements are those of the database's catalogue if the rules at the time named any, else
    those in the text: what a view reads is not in it.

    \b
    vendorgate whatif --rules ./rules.d --since 7d
    vendorgate whatif --rules ./rules.d --who acme --json | jq '.changes[] | select(.change == "newly blocked")'
    """
    policy = rules_at(path)
    place = source(site)
    asked = wanted(given, limit)
    found = place.sessions(asked)
    report = _judged(policy, place, found)
    if as_json:
        screen.json(report)
        return
    _print(report)
    if len(found) == limit:
        screen.warn(f"the newest {limit}; there may be more: --limit, --until")


def _judged(policy: Policy, place: Source, found: Sequence[Session]) -> "Report":
    from appliance.facts.shared import Shared  # noqa: PLC0415  help needs none of it
    from appliance.service.whatif import Again, Counts  # noqa: PLC0415

    counts, shared = Counts(policy.revision), Shared()
    for session in _progress(found):
        again = Again(policy, counts, shared)
        try:
            for frame in place.frames(session.id):
                again.take(frame)
        except (No, HostError) as error:  # retention took it meanwhile, or it broke off
            screen.warn(f"{session.id}: {error}")
        again.end()
    return counts.report()


def _progress(found: Sequence[Session]) -> Iterator[Session]:
    """Pass sessions on; on a terminal, say how far it is."""
    shown, due = sys.stderr.isatty(), 0.0
    try:
        for number, session in enumerate(found):
            if shown and time.monotonic() >= due:
                due = time.monotonic() + screen.REDRAW_S
                click.echo(f"\r\033[Kwhatif: {number} of {len(found)} sessions", err=True, nl=False)
            yield session
    finally:
        if shown:
            click.echo("\r\033[K", err=True, nl=False)


def _print(report: "Report") -> None:
    screen_rows = [_row(change) for change in report.changes]
    if screen_rows:
        screen.table(HEAD, screen_rows, right=(1, 6))
        click.echo()
    for change in report.changes:
        click.echo(f"{_coloured(change.change)} by {screen.visible(change.rule)}"
                   + (f": {screen.visible(change.reason)}" if change.reason else ""))  # fmt: skip
        for example in change.examples:
            click.echo(f"  {screen.visible(example.session)}  {screen.visible(example.text) or '-'}")
    said = f"{report.requests} requests of {report.sessions} sessions judged again by {report.revision}"
    click.echo(f"{said}: {report.unchanged} as they were" if report.requests else f"{said}")
    if report.unjudged:
        click.echo("\nNot to be told from the record:")
    for gap in report.unjudged:
        click.echo(f"  {gap.count:>6}  {screen.visible(gap.why)}")


def _row(change: "Change") -> tuple[str, ...]:
    return (
        _coloured(change.change),
        str(change.count),
        screen.visible(change.rule),
        screen.visible(change.before),
        screen.visible(change.identity) or "-",
        screen.visible(change.target) or "-",
        str(change.cells) if change.cells else "-",
    )


def _coloured(change: str) -> str:
    return click.style(change, fg=COLOURS[change])
