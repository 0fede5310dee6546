"""`vendorgate sessions`."""

from typing import Any

import click

from appliance.cli import screen
from appliance.cli.filters import filters, wanted
from appliance.cli.site import Site, pass_site
from appliance.cli.store import source
from appliance.record.session import Filter, Session

MAX_LISTED = 10_000  # sessions; as many as the hub gives at once
HEAD = ("ID", "STARTED", "LASTED", "WHO", "PROCESS", "TO", "MESSAGES", "BYTES", "RULES")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@filters
@click.option(
    "--limit", type=click.IntRange(1, MAX_LISTED), default=100, show_default=True, help="At most so many."
)
@pass_site
def sessions(site: Site, /, as_json: bool, limit: int, **given: Any) -> None:
    """List recorded sessions, the newest first.

    In what sessions are found by, * and ? stand for anything; several options must all hold. RULES tells which
    rules decided how many messages, or masked how many answers. Without a running vendorgate the files are
    read (root). Times are UTC.

    \b
    vendorgate sessions --since 1h
    vendorgate sessions --who acme --to orders-db --verdict block
    vendorgate sessions --table users --text '"where ssn"'
    vendorgate sessions --statement 'drop table *' --since 7d
    vendorgate sessions --json --limit 1 | jq '.[0].process'
    """
    asked = wanted(given, limit)
    found = source(site).sessions(asked)
    if as_json:
        screen.json(found)
    elif not found:
        click.echo("No session matches." if asked != Filter(limit=limit) else "No session is recorded yet.")
    else:
        screen.table(HEAD, [_row(session) for session in found], right=(6, 7))
        if len(found) == limit:
            screen.warn(f"the newest {limit}; there may be more: --limit, --until")


def _row(session: Session) -> tuple[str, ...]:
    process = session.process
    lasted = screen.span(session.ended - session.started) if session.ended is not None else "open"
    return (
        screen.visible(session.id),
        screen.moment(session.started),
        lasted,
        screen.visible(session.identity or (process.cgroup if process else "")) or "-",
        f"{screen.visible(process.exe)}[{process.pid}]" if process else "(imported)" if session.source else "-",
        screen.visible(session.target) or "-",
        str(session.messages),
        screen.amount(session.bytes),
        " ".join(f"{screen.visible(rule)}:{count}" for rule, count in session.verdicts.items()) or "-",
    )
