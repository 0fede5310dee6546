"""The record of one process's flows: what rules ask for because of a note, the log, and what is told when it fails.

Compiled where that was asked for: every message comes through here.
"""

import time
from collections.abc import Callable, Sequence

from appliance.model import Flow, Note
from appliance.policy import Policy
from appliance.record.log import Entry, Log
from appliance.relay.channel import Contain, Recorded
from appliance.service import reaction


class Book:
    """Keeps notes before what they tell of goes on."""

    def __init__(
        self,
        log: Log,
        required: bool,
        tell: Callable[[Contain | Recorded], None],
        lost: Callable[[Flow, int, OSError], None],
        appended: Callable[[], None] | None = None,
    ) -> None:
        """`required`: what is not recorded must not go on; else `lost` is told of so many notes. `appended` is
        called after each write."""
        self._log, self._required, self._tell, self._lost, self._appended = log, required, tell, lost, appended
        self._policy: Policy | None = None
        self._contains = False  # a rule in force acts on what is noted

    def judge_by(self, policy: Policy) -> None:
        """Take the rules in force."""
        self._policy = policy
        self._contains = any(rule.on_incident for rule in policy.rules)

    def keep(self, flow: Flow, notes: Sequence[Note]) -> None:
        """Append the notes of a flow; OSError if they cannot be, and must."""
        self._append([(flow, self._contained(flow, notes))])

    def keep_all(self, entries: Sequence[Entry]) -> list[Exception | None]:
        """Append the notes of many flows by one write; return for each why it must not go on.

        If that write fails, each flow is tried by itself: the fault of one is not that of others.
        """
        if self._contains:
            entries = [(flow, self._contained(flow, notes)) for flow, notes in entries]
        found: list[Exception | None] = [None] * len(entries)
        try:
            self._log.append_all(entries, time.time())
        except Exception:
            for at, entry in enumerate(entries):
                try:
                    self._append([entry])
                except Exception as error:
                    found[at] = error
        else:
            self._kept(entries)
        return found

    def _append(self, entries: Sequence[Entry]) -> None:
        try:
            self._log.append_all(entries, time.time())
        except OSError as error:
            if self._required:
                raise
            for flow, notes in entries:
                self._lost(flow, len(notes), error)
            return
        self._kept(entries)

    def _kept(self, entries: Sequence[Entry]) -> None:
        if self._appended is not None:
            self._appended()
        for flow, notes in entries:
            if flow.sequence and notes and notes[0].kind == "opened":
                self._tell(Recorded(flow.epoch, flow.scope, flow.sequence))

    def _contained(self, flow: Flow, notes: Sequence[Note]) -> Sequence[Note]:
        if not self._contains:
            return notes
        asked, notes = reaction.contain(self._policy, flow, notes)
        if asked:
            self._tell(asked)
        return notes
