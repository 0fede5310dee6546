"""The record read from its files, for when there is no hub to ask."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from appliance.cli.hub import Hub
from appliance.cli.identity import who
from appliance.cli.screen import warn
from appliance.cli.site import No, Site, Source
from appliance.model import ConfigError, HostError
from appliance.record.begun import Begun
from appliance.record.checkpoint import Checkpoints, Deed, Said
from appliance.record.export import Export
from appliance.record.frame import Frame
from appliance.record.index import Index
from appliance.record.keeper import PROOF
from appliance.record.session import Filter, Session
from appliance.service.keys import signer

RECORDS, INDEX = "records", "index.sqlite"  # in state_dir, as service/stores.py lays it out


def source(site: Site) -> Source:
    """Return the hub if it runs, else the files."""
    hub = Hub(site.socket)
    if hub.is_up():
        return hub
    directory = site.settings.state_dir
    warn(f"vendorgate is not running: reading the record in {directory}")
    store = Store(directory, site.settings.rules)
    click.get_current_context().call_on_close(store.close)
    return store


class Store:
    """The record below one state directory."""

    def __init__(self, directory: Path, rules: Path) -> None:
        """Open it. `rules` is where they are on disk.

        Raises:
            No: nothing was ever recorded there.
            HostError: it may not be read.
        """
        self._directory, self._rules = directory, rules
        try:
            if not (directory / RECORDS).is_dir():
                raise No(f"{directory}: nothing is recorded here", "state_dir in the settings says where")
            Begun(directory / RECORDS, warn).take()
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

    def export(self, asked: Export) -> Iterator[bytes]:
        from appliance.service.exports import Exports  # noqa: PLC0415  it brings rules and protocols along

        key = signer(self._directory)
        checkpoints = Checkpoints(self._directory / PROOF, key)

        def note(deed: Deed) -> None:
            checkpoints.append(Said(deeds=(deed,)))

        return Exports(self._directory, self._index, key, note, self._patterns).open(asked, who())

    def _patterns(self) -> Mapping[str, str]:
        """Return the detectors of the rules on disk; rules that cannot be read have none."""
        from appliance import config  # noqa: PLC0415
        from appliance.service import rulebook  # noqa: PLC0415

        try:
            return config.rules(rulebook.read(self._rules).texts, lambda name: ["0.0.0.0"]).patterns
        except ConfigError as error:
            warn(f"detectors of the rules are not known: {error}")
            return {}
