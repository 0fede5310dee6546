"""The record read from its files, for when there is no hub to ask."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from appliance.cli.hub import Hub
from appliance.cli.screen import warn
from appliance.cli.site import No, Site, Source
from appliance.model import ConfigError, HostError
from appliance.record.export import FORMATS
from appliance.record.frame import Frame
from appliance.record.index import Index
from appliance.record.session import Filter, Session

RECORDS, INDEX = "records", "index.sqlite"  # in state_dir, as service/stores.py lays it out


def source(site: Site) -> Source:
    """Return the hub if it runs, else the files."""
    hub = Hub(site.socket)
    if hub.is_up():
        return hub
    directory = site.settings.state_dir
    warn(f"vendorgate is not running: reading the record in {directory}")
    store = Store(directory)
    click.get_current_context().call_on_close(store.close)
    return store


class Store:
    """The record below one state directory."""

    def __init__(self, directory: Path) -> None:
        """Open it.

        Raises:
            No: nothing was ever recorded there.
            HostError: it may not be read.
        """
        try:
            if not (directory / RECORDS).is_dir():
                raise No(f"{directory}: nothing is recorded here", "state_dir in the settings says where")
            self._index = Index(directory / INDEX, directory / RECORDS)
            caught = self._index.catch_up()
        except OSError as error:
            hint = "only root reads the record while vendorgate does not run"
            raise HostError(f"{directory}: {error.strerror}", hint) from None
        for text in caught.bad:
            warn(text)

    def close(self) -> None:
        self._index.close()

    def sessions(self, wanted: Filter) -> Sequence[Session]:
        return self._index.sessions(wanted)

    def frames(self, id: str) -> Iterator[Frame]:
        return self._index.frames([id])

    def export(self, ids: Sequence[str], format: str) -> Iterator[bytes]:
        if format not in FORMATS:
            raise ConfigError("format", f"`{format}` is not known", f"one of {', '.join(FORMATS)}")
        return FORMATS[format](self._index.frames(ids))
