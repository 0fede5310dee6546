"""Notes of a capture into the record, marked with the file they are from.

An import is a worker of its own: its segments are named `import-...`, have a chain of their own, and are sealed by the
hub as any. Frames have the times of the capture. How long they are kept counts from the import, which is the number in
the name of the segment (record/catalog.py). A signed entry among the checkpoints says who imported which file.
"""

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.model import Flow, HostError, Note
from appliance.record.catalog import IMPORT
from appliance.record.checkpoint import Checkpoints, Deed, Said
from appliance.record.keeper import PROOF, RECORDS, Keeper
from appliance.record.log import Log
from appliance.record.signing import Signer
from appliance.record.whose import IMPORTS
from appliance.service.ids import Ids

MAX_NAME = 200  # characters of the file's name that stay with each of its sessions
MAX_TOLD = 1_000  # sessions named in the entry; of more, how many


def source(path: Path, digest: str) -> str:
    """Return how a file is named in the record."""
    return f"{path.name[:MAX_NAME]} sha256:{digest}"


class Imports:
    """One import into the record of a state directory; a sink of flows."""

    def __init__(self, state_dir: Path, signer: Signer) -> None:
        """Open it.

        Raises:
            HostError: nothing can be written there.
        """
        self._state_dir, self._signer = state_dir, signer
        records = state_dir / RECORDS
        try:
            records.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What is recorded happened before, and the segments are whose the directory is.
            self._log = Log(
                records,
                f"{IMPORT}{secrets.token_hex(4)}",
                clock=time.time,
                begun=lambda descriptor: os.fchown(descriptor, *_owner(records)),
            )
        except OSError as error:
            hint = "only root imports: the record is the host's"
            raise HostError(f"{records}: {error.strerror}", hint) from None
        self._ids = Ids(IMPORTS + secrets.randbelow(IMPORTS))
        self.sessions: list[str] = []
        self.count = 0

    @property
    def next_id(self) -> Callable[[], str]:
        return self._ids.next

    def append(self, flow: Flow, notes: Sequence[Note], now: float, packet: int) -> None:
        """Raises OSError if it is not in the record."""
        self._log.append(flow, notes, now)
        if notes[0].kind == "opened":
            self.count += 1
            if len(self.sessions) < MAX_TOLD:
                self.sessions.append(flow.id)

    def end(self, by: str, reason: str, of: str, sealed: bool) -> None:
        """Put on record who imported what. `sealed`: nobody else will seal it."""
        self._log.seal()
        text = f"import of {self.count} sessions from {of}"
        if self.count > len(self.sessions):
            text += f", the first {len(self.sessions)} named"
        deed = Deed("import", by, reason, tuple(self.sessions), (), text)
        if sealed:
            keeper = Keeper(self._state_dir, self._signer)
            try:
                keeper.round(deeds=[deed])
            finally:
                keeper.close()
        else:
            Checkpoints(self._state_dir / PROOF, self._signer).append(Said(deeds=(deed,)))


def _owner(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_uid, status.st_gid
