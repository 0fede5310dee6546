"""Options that say which sessions: the same for every command that takes many."""

from collections.abc import Callable
from typing import Any

import click

from appliance.cli import screen
from appliance.cli.words import Moment
from appliance.record.session import Filter

OPTIONS = (
    click.option("--who", default="", help="Identity, cgroup below the slice, unit or container."),
    click.option("--exe", default="", help="Executable or script: its path or its name."),
    click.option("--to", default="", help="Target, address or address:port."),
    click.option("--table", default="", help="Touched by a statement; without a schema, in any."),
    click.option("--statement", default="", help="A whole statement; capitals and spaces do not matter."),
    click.option("--text", default="", help='Words said, but for rows; "two words" in a row, begin* of a word.'),
    click.option("--verdict", type=click.Choice(screen.VERDICTS), default=None, help="Given at least once."),
    click.option("--rule", default="", help="Id of a rule that decided or masked."),
    click.option("--by", default="", help="Who answered a question."),
    click.option("--package", default="", help="Package of the executable."),
    click.option("--sha256", default="", help="Of the executable, script or imported capture, or how it begins."),
    click.option("--since", type=Moment(), help="Something happened then or later: 15m, 1h, 2d ago, or a date."),
    click.option("--until", type=Moment(), help="Begun then or before."),
)  # * and ? stand for anything in all texts


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it finds the result of `wanted` on what it is called with."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def wanted(given: dict[str, Any], limit: int) -> Filter:
    """Return the filter for what was given."""
    return Filter(**{**given, "verdict": given["verdict"] or ""}, limit=limit)
