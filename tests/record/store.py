"""A state directory with a keeper, for tests: what workers write, sealed as the hub does."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.model import Flow, Note
from appliance.record.frame import segments
from appliance.record.keeper import Keeper
from appliance.record.log import Log
from appliance.record.signing import Signer
from tests.record.samples import T, asked, closed, flow, opened, rows

SECRET = bytes(range(32))


class Store:
    """One state directory; `log(name)` is a worker's."""

    def __init__(self, home: Path, segment_bytes: int = 1 << 20) -> None:
        self.home, self.records, self._segment_bytes = home, home / "records", segment_bytes
        self.records.mkdir(exist_ok=True)
        self.keeper = Keeper(home, Signer(SECRET), checkpoint_s=0)
        self._logs: dict[str, Log] = {}

    def log(self, worker: str = "w0") -> Log:
        if worker not in self._logs:
            self._logs[worker] = Log(self.records, worker, segment_bytes=self._segment_bytes)
        return self._logs[worker]

    def write(self, of: Flow, notes: Sequence[Note], now: float = T, worker: str = "w0") -> None:
        self.log(worker).append(of, notes, now)

    def session(
        self,
        id: str,
        now: float = T,
        worker: str = "w0",
        *,
        identity: str = "acme",
        sequence: int = 0,
        size: int = 100,
    ) -> None:
        """Write a whole session."""
        of = msgspec.structs.replace(flow(id, now), sequence=sequence, scope=7 if sequence else 0, epoch=1)
        notes = [opened(identity), *asked(f"select {id}", id=f"{id}-1"), rows(os.urandom(size)), closed()]
        self.write(of, notes, now, worker)

    def seal(self) -> None:
        """End all open segments and have them sealed and packed."""
        for log in self._logs.values():
            log.seal()
        self.keeper.round()

    def names(self) -> list[str]:
        return [Path(one.path).name for one in segments(self.records)]

    def close(self) -> None:
        self.keeper.close()
