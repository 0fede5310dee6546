"""`record.sync: always`: a thread of the worker that waits for the disk, so that the loop does not.

One fdatasync at a time; all that is appended while it runs shares the next (group commit).
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from appliance.record.log import Log
from appliance.relay.gate import Gate

T = TypeVar("T")
log = logging.getLogger("vendorgate.worker")


class Syncer:
    """Owns the gate. `recorded` on the loop, after each append."""

    def __init__(self, record: Log, required: bool, incident: Callable[[str], object]) -> None:
        """`required`: what cannot be synced is not forwarded; else it goes on, and is told of."""
        self._log, self._required, self._incident = record, required, incident
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Event()
        self.gate = Gate(self._wanted.set)
        threading.Thread(target=self._run, name="sync", daemon=True).start()

    def recorded(self) -> None:
        """Something was appended."""
        self.gate.recorded(self._log.position)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                position = self._log.sync()
            except OSError as error:
                self._call(self._failed, error)
            else:
                self._call(self.gate.opened, position)

    def _call(self, function: Callable[[T], object], value: T) -> None:
        try:
            self._loop.call_soon_threadsafe(function, value)
        except RuntimeError:
            pass  # the loop is closed: the worker ends

    def _failed(self, error: OSError) -> None:
        self._incident(f"the disk does not take the record: {error}")
        self._log.seal()  # what comes next is not to rest on what may be lost
        if self._required:
            self.gate.failed()
        else:
            self.gate.opened(self._log.position)
