"""Questions of all workers: asked of the reviewers, answered to the worker that asked, and kept in a trail.

A worker may ask, withdraw and end only what is its own: whoever takes one over gains no say in others'
questions.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from pathlib import Path

import msgspec

from appliance.control.approvals import Approvals, Entry
from appliance.control.desk import Reply
from appliance.model import Address, Answered, Question

log = logging.getLogger("vendorgate.hub")

TRAIL = "approvals.jsonl"  # in state_dir; one Entry a line
ASKED = "asked.jsonl"  # beside it: what vendors can write as much of as they like
BY_PEOPLE = frozenset({"vote", "approved", "denied", "voided"})
MAX_TRAIL = 16 << 20  # bytes of each; then it is set aside, and the one set aside before is dropped


class Trail:
    """What was asked and answered, by whom, in files that only grow.

    What people did is in a file of its own: a vendor that asks without end pushes out only what vendors did.
    """

    def __init__(self, path: Path) -> None:
        self._people, self._vendors = path, path.with_name(ASKED)
        self._unwritten: list[Entry] = []
        self.error = ""  # why the last entries are not on disk

    def write(self, take: Callable[[], list[Entry]]) -> None:
        """Append what `take` returns. While it cannot be written, no more is taken."""
        if not self._unwritten:
            self._unwritten = take()
        try:
            while self._unwritten:
                self._append_first()
        except OSError as error:
            if not self.error:
                log.error("the trail of approvals cannot be written: %s", error)
            self.error = str(error)
        else:
            self.error = ""

    def _append_first(self) -> None:
        """Append the entries, from the first on, that go to one file."""
        people = self._unwritten[0].kind in BY_PEOPLE
        run = list(takewhile(lambda entry: (entry.kind in BY_PEOPLE) == people, self._unwritten))
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in run)
        self._append(self._people if people else self._vendors, data)
        del self._unwritten[: len(run)]

    def _append(self, path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(fd).st_size
            written = os.write(fd, data)
            if written != len(data):
                os.ftruncate(fd, size)
                raise OSError(28, f"{written} of {len(data)} bytes written")
        finally:
            os.close(fd)
        if size + written > MAX_TRAIL:
            path.rename(path.with_suffix(".1.jsonl"))


class Questions:
    """Between workers (by number) and Approvals. `answer` sends to one of them."""

    def __init__(
        self, approvals: Approvals, trail: Trail, answer: Callable[[int, Answered], None], stranger: str
    ) -> None:
        """`stranger` is the user that workers run as: it reviews nothing."""
        self._approvals, self._trail, self._send, self._stranger = approvals, trail, answer, stranger
        self._asked_by: dict[str, int] = {}  # question -> worker
        self._flows: dict[str, int] = {}  # flow that asked something -> worker

    def ask(self, worker: int, question: Question) -> None:
        """A flow of a worker waits for an answer."""
        if self._flows.get(question.flow.id, worker) != worker:
            self._send(worker, Answered(question.id, False, "vendorgate", "not a flow of this worker"))
            return
        answered = self._approvals.ask(question, time.time())
        self._write()
        if answered is None or answered.approved:
            self._flows[question.flow.id] = worker
        if answered:
            self._send(worker, self._recorded(answered))
        else:
            self._asked_by[question.id] = worker

    def withdraw(self, worker: int, id: str, reason: str) -> None:
        """It waits no more."""
        if self._asked_by.get(id) == worker:
            del self._asked_by[id]
            self._approvals.withdraw(id, reason, time.time())
            self._write()

    def cancel(self, server: Address, key: bytes) -> None:
        """A client cancels what waits for it on another connection, wherever that is."""
        self._answer(self._approvals.cancel(server, key, time.time()))

    def over(self, worker: int, flow: str) -> None:
        """A flow that asked something is no more."""
        if self._flows.get(flow) == worker:
            del self._flows[flow]
            self._approvals.ended(flow, time.time())
            self._write()

    def gone(self, worker: int) -> None:
        """A worker has ended, and all its flows."""
        for flow in [flow for flow, owner in self._flows.items() if owner == worker]:
            self.over(worker, flow)
        self._asked_by = {id: owner for id, owner in self._asked_by.items() if owner != worker}

    def review(self, id: str, by: str, groups: Collection[str], approved: bool, reason: str) -> Reply:
        """Take a reviewer's answer."""
        if by == self._stranger:
            return Reply("forbidden", f"{by} is whom the relay runs as; it reviews nothing")
        self._write()
        if approved and self._trail.error:
            text = f"nothing can be approved, the trail cannot be written: {self._trail.error}"
            return Reply("unavailable", text)
        reply = self._approvals.answer(id, by, groups, approved=approved, reason=reason, now=time.time())
        self._answer([reply.answered] if reply.answered else [])
        return reply

    def tick(self) -> None:
        """End what is over in time. Call it every second."""
        self._answer(self._approvals.expire(time.time()))

    def _answer(self, answers: Sequence[Answered]) -> None:
        self._write()  # what is released is on the trail first
        for answered in answers:
            worker = self._asked_by.pop(answered.id, None)
            if worker is not None:
                self._send(worker, self._recorded(answered))

    def _recorded(self, answered: Answered) -> Answered:
        """Return a denial in place of a release that is not on the trail."""
        if not (answered.approved and self._trail.error):
            return answered
        return Answered(answered.id, False, "vendorgate", "the approval could not be recorded")

    def _write(self) -> None:
        self._trail.write(self._approvals.take)
