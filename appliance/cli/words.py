"""What may stand on the command line: moments, and ids cut short."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from appliance.cli.site import No, Source
from appliance.model import ConfigError
from appliance.record.session import Filter, Session

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LAST = "last"


class Moment(click.ParamType[float]):
    """A length of time before now (`90s 15m 1h 2d`), or a date with or without a time of day, in UTC."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return unix seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        ago = re.fullmatch(r"(\d{1,9})([smhdw])", text)
        if ago:
            return time.time() - int(ago[1]) * UNITS[ago[2]]
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"`{text}` is no time: write 15m, 1h, 2d, 2026-11-21 or 2026-11-21T13:05", param, ctx)


class Length(click.ParamType[float]):
    """A length of time: `90s 15m 1h`."""

    name = "length"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        text = str(value).strip()
        found = re.fullmatch(r"(\d{1,9})([smhdw])", text)
        if not found:
            self.fail(f"`{text}` is no length of time: write 90s, 15m, 1h", param, ctx)
        return float(int(found[1]) * UNITS[found[2]])


def session_id(source: Source, word: str) -> str:
    """Return the whole id that `word` stands for.

    Raises:
        No: there is no such session.
        ConfigError: there are several.
    """
    return find(source, word).id


def find(source: Source, word: str) -> Session:
    """Return the session that `word` stands for; see `session_id`."""
    if word == LAST:
        found = source.sessions(Filter(limit=1))
        if not found:
            raise No("no session is recorded yet")
        return found[0]
    found = source.sessions(Filter(id=word, limit=3)) if word else []
    if not found:
        raise No(f"no session `{word}`", "vendorgate sessions lists them")
    exact = [session for session in found if session.id == word]
    if len(found) > 1 and not exact:
        raise ConfigError(f"`{word}`", "stands for several sessions", f"{found[0].id} or {found[1].id}?")
    return (exact or found)[0]


def one_of(word: str, ids: Sequence[str]) -> str | None:
    """Return the id that `word` stands for, None if none does.

    Raises:
        ConfigError: there are several.
    """
    if word in ids:
        return word
    found = [id for id in ids if word and id.startswith(word)]
    if len(found) > 1:
        raise ConfigError(f"`{word}`", "stands for several", f"{found[0]} or {found[1]}?")
    return found[0] if found else None
