"""The one timer of a session: it rings at its deadline, or not long after."""

import asyncio
from collections.abc import Callable

from appliance.relay.session_type import Session


class Alarm:
    """Calls `ring` when the deadline of a session has passed, at most once in `tick_s`. `set` after each event."""

    def __init__(self, session: Session, tick_s: float, ring: Callable[[], None]) -> None:
        self._session, self._tick_s, self._ring = session, tick_s, ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def set(self) -> None:
        """Keep one timer that rings at the deadline, or before it."""
        deadline, timer = self._session.deadline, self._timer
        if deadline is None and timer is None:
            return
        if timer and (deadline is None or timer.when() > deadline):
            timer.cancel()
            self._timer = timer = None
        if timer is None and deadline is not None:
            soon = self._loop.time() + self._tick_s
            self._timer = self._loop.call_at(max(deadline, soon), self._rings)

    def stop(self) -> None:
        """Ring no more."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def _rings(self) -> None:
        self._timer = None
        deadline = self._session.deadline
        if deadline is not None and self._loop.time() >= deadline:
            self._ring()
        elif not self._stopped:
            self.set()
