"""What a command is about: the settings of this host, its hub, its record."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from appliance.model import ConfigError

if TYPE_CHECKING:
    from appliance.config import Settings
    from appliance.record.export import Export
    from appliance.record.frame import Frame
    from appliance.record.session import Filter, Session

DEFAULT_CONFIG = Path("/etc/vendorgate/vendorgate.yaml")
MAX_CONFIG = 1 << 20  # bytes; the longest we know has 2 KB


class No(Exception):
    """The answer is no: exit status 1."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what + (f"\nhint: {hint}" if hint else ""))


class Source(Protocol):
    """Where recorded sessions are read from: the hub, or the files."""

    def sessions(self, wanted: "Filter") -> "Sequence[Session]":
        """Return the sessions that match, the newest first."""

    def frames(self, id: str) -> "Iterator[Frame]":
        """Yield the frames of one session."""

    def export(self, asked: "Export") -> Iterator[bytes]:
        """Yield the export of sessions, piece by piece; an empty piece says that work goes on."""


class Site:
    """The host as `--config` names it. Nothing is read before it is asked for."""

    def __init__(self, config: Path | None = None) -> None:
        self.path = config or DEFAULT_CONFIG
        self._given = config is not None
        self._settings: Settings | None = None

    @property
    def settings(self) -> "Settings":
        """The settings; a default place where there is no file means all defaults.

        Raises:
            ConfigError: the file cannot be read or is wrong.
        """
        if self._settings is None:
            from appliance.config import settings  # noqa: PLC0415  help needs none of it

            self._settings = settings(str(self.path), self._text())
        return self._settings

    @property
    def socket(self) -> Path:
        return self.settings.runtime_dir / "control.sock"

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_CONFIG + 1)
        except FileNotFoundError:
            if not self._given:
                return ""
            raise ConfigError(
                str(self.path), "no such file", "--config or VENDORGATE_CONFIG names it"
            ) from None
        except OSError as error:
            raise ConfigError(str(self.path), f"cannot be read: {error.strerror}", "sudo vendorgate ...") from None
        if len(data) > MAX_CONFIG:
            raise ConfigError(str(self.path), f"longer than {MAX_CONFIG} bytes", "rules are files of their own")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ConfigError(str(self.path), "is no UTF-8 text", "save it as UTF-8") from None


def site_of(ctx: click.Context) -> Site:
    """Return the site a command was called for."""
    found = ctx.find_object(Site)
    assert found is not None
    return found


pass_site = click.make_pass_decorator(Site)
