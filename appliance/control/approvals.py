"""Questions that wait for a reviewer, and the grants that answers leave behind. Pure: time is an argument.

Theory of operation. A question is pending from `ask` until exactly one of these ends it: enough distinct
approvers, one denial, its expiry, a withdrawal (the client left) or a cancel of the client. Only the first
of them releases the message; a question that is gone cannot be answered. Nothing is kept on disk: after a
restart every question is gone, and a relay whose hub is gone denies what it holds.

A grant lets the same request pass again while the rule's `reuse` says so. It is looked up by a digest of
all that the reviewer saw: bytes, text, process identity, rule, revision of the rules and target; whatever
differs finds no grant. A question asked under older rules can still be answered, but leaves no grant, and
the session that holds it judges it anew.

Every step is an `Entry` of the trail, which the caller takes and records. While the trail is full nothing is
released: what cannot be recorded does not happen.
"""

import hashlib
from collections.abc import Collection
from typing import Literal

import msgspec

from appliance.control.desk import Held, Reply, held
from appliance.model import Address, Answered, Approval, Process, Question

US = "vendorgate"  # who answered, when no person did
ROOT = "root"  # may answer for any group, and is recorded as root

MAX_REASON = 1000  # characters of a reviewer's reason; two screen lines are usual

Kind = Literal[
    "asked", "vote", "approved", "denied", "expired", "withdrawn", "cancelled", "refused", "reused", "voided"
]


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What may wait at one time. A request over a limit is denied at once (slow-loris of held requests)."""

    process: int = 20  # questions of one process; a client with one connection has one
    identity: int = 250  # questions of one identity, so that one vendor cannot use up the room of all
    total: int = 1000  # more than anyone reviews by hand
    question: int = 1 << 20  # bytes of one question; MAX_STATEMENT of the wires: nobody reviews more
    bytes: int = 16 << 20  # bytes of all questions; a quarter of the memory promised for the hub
    grants: int = 10_000  # about 3 MB; the oldest makes room
    trail: int = 10_000  # entries not taken yet; a full round of ask, votes and answer for all, thrice
    identity_bytes: int = 4 << 20  # of one identity; as large a part of all as of their number


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line of the audit trail."""

    at: float
    kind: Kind
    id: str = ""
    flow: str = ""
    identity: str = ""
    target: str = ""
    rule: str = ""
    revision: str = ""
    by: str = ""
    reason: str = ""


class _Grant(msgspec.Struct, frozen=True, gc=False):
    by: str
    revision: str
    flow: str  # the only flow it holds for; empty: any
    until: float  # unix seconds; 0: as long as the flow


class Approvals:
    """All questions of this host. One per hub; not thread-safe."""

    def __init__(self, revision: str = "", limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._revision = revision
        self._asked: dict[str, Question] = {}
        self._held: dict[str, Held] = {}  # what reviewers see of each of them, the votes included
        self._bytes = 0
        self._grants: dict[bytes, _Grant] = {}  # in order of making
        self._trail: list[Entry] = []

    def ask(self, question: Question, now: float) -> Answered | None:
        """Take a question. Returns the answer if there is one at once (a grant, or a limit), else None."""
        refusal = self._refusal(question, now)
        if refusal:
            self._note(now, "refused", question, US, refusal)
            return Answered(question.id, approved=False, by=US, reason=refusal)
        grant = self._grant_for(question, now)
        if grant:
            by = f"grant of {grant.by}"
            self._note(now, "reused", question, by)
            return Answered(question.id, approved=True, by=by, reason="the same request was approved before")
        self._asked[question.id] = question
        self._held[question.id] = held(question)
        self._bytes += _size(question)
        self._note(now, "asked", question)
        return None

    def answer(
        self, id: str, by: str, groups: Collection[str], *, approved: bool, reason: str, now: float
    ) -> Reply:
        """Take one reviewer's answer. `Reply.answered` is set when it ends the question."""
        question = self._asked.get(id)
        if question is None:
            return Reply("absent", f"no question `{id}` is waiting")
        if now >= question.expires:
            answered = self._end(question, "expired", US, "approval timed out", now)
            return Reply("absent", f"question `{id}` has expired", answered)
        reason = reason[:MAX_REASON]
        group = _approval(question).group
        if by != ROOT and group and group not in groups:
            self._note(now, "refused", question, by, f"not in group {group}")
            return Reply("forbidden", f"only members of group `{group}` may answer `{id}`; {by} is not one")
        if not approved:
            answered = self._end(question, "denied", by, reason, now)
            return Reply("done", f"denied {id}", answered)
        return self._vote(question, by, reason, now)

    def expire(self, now: float) -> list[Answered]:
        """Deny all whose time is over."""
        late = [q for q in self._asked.values() if now >= q.expires]
        return [self._end(q, "expired", US, "approval timed out", now) for q in late]

    def withdraw(self, id: str, reason: str, now: float) -> None:
        """Forget a question whose session no longer waits; nothing to do if it is gone."""
        question = self._asked.get(id)
        if question is not None:
            self._end(question, "withdrawn", US, reason, now)

    def cancel(self, server: Address, key: bytes, now: float) -> list[Answered]:
        """Answer the questions whose connection to `server` was given `key`: their client takes them back."""
        mine = [q for q in self._asked.values() if key and q.cancel_key == key and q.flow.server == server]
        return [self._end(q, "cancelled", "client", "cancelled by the client", now) for q in mine]

    def ended(self, flow: str, now: float) -> None:
        """Forget all of a flow that is over: its questions and the grants for its session."""
        for question in [q for q in self._asked.values() if q.flow.id == flow]:
            self._end(question, "withdrawn", US, "the flow ended", now)
        for key in [k for k, g in self._grants.items() if g.flow == flow]:
            del self._grants[key]

    def reload(self, revision: str, now: float) -> None:
        """Take the revision now in force. Grants given under another are void."""
        self._revision = revision
        void = [key for key, grant in self._grants.items() if grant.revision != revision]
        for key in void:
            del self._grants[key]
        if void:
            reason = f"{len(void)} grants: the rules changed"
            self._trail.append(Entry(now, "voided", revision=revision, by=US, reason=reason))

    def pending(self, now: float) -> list[Held]:
        """Return what waits, oldest first, as reviewers see it."""
        return [self._held[q.id] for q in self._asked.values() if now < q.expires]

    def question(self, id: str) -> Held | None:
        """Return a pending question, its message whole."""
        question = self._asked.get(id)
        return msgspec.structs.replace(self._held[id], raw=question.raw) if question else None

    def take(self) -> list[Entry]:
        """Return the entries of the trail since the last call; the caller has to record them."""
        out, self._trail = self._trail, []
        return out

    # -- one question ----------------------------------------------------------------------------------------

    def _refusal(self, question: Question, now: float) -> str:
        """Return why a question cannot be taken, or an empty string."""
        most, mine = self._limits, list(self._asked.values())
        if question.id in self._asked:
            return "a question of this id is waiting"
        if now >= question.expires:
            return "approval timed out"
        if len(self._trail) >= most.trail:
            return "the trail of approvals is not being recorded"
        if _size(question) > most.question:
            return f"too large to review (over {most.question} bytes)"
        if self._bytes + _size(question) > most.bytes:
            return f"held requests take all the room there is ({most.bytes} bytes)"
        if len(mine) >= most.total:
            return f"too many held requests in all ({most.total})"
        whose = _identity(question)
        theirs = [q for q in mine if _identity(q) == whose]
        if len(theirs) >= most.identity:
            return f"too many held requests of this identity ({most.identity})"
        if sum(map(_size, theirs)) + _size(question) > most.identity_bytes:
            return f"held requests of this identity take all its room ({most.identity_bytes} bytes)"
        if sum(_process(q) == _process(question) for q in mine) >= most.process:
            return f"too many held requests of this process ({most.process})"
        return ""

    def _vote(self, question: Question, by: str, reason: str, now: float) -> Reply:
        shown, approval = self._held[question.id], _approval(question)
        if len(self._trail) >= self._limits.trail:
            return Reply("unavailable", "the trail of approvals is not recorded: nothing can be approved")
        if by in shown.approved_by:
            return Reply("repeated", f"{by} has approved `{question.id}` already; another person has to")
        votes = (*shown.approved_by, by)
        names = ", ".join(votes)
        missing = approval.count - len(votes)
        if missing > 0:
            self._held[question.id] = msgspec.structs.replace(shown, approved_by=votes)
            self._note(now, "vote", question, by, reason)
            return Reply("waiting", f"approved by {names}; {missing} more needed")
        answered = self._end(question, "approved", names, reason, now)
        if question.decision.revision != self._revision:
            text = f"approved {question.id}, but the rules changed since it was asked: it is judged anew"
            return Reply("done", text, answered)
        self._grant(question, names, now)
        return Reply("done", f"approved {question.id}", answered)

    def _end(self, question: Question, kind: Kind, by: str, reason: str, now: float) -> Answered:
        del self._asked[question.id]
        del self._held[question.id]
        self._bytes -= _size(question)
        self._note(now, kind, question, by, reason)
        return Answered(question.id, kind == "approved", by, reason, cancelled=kind == "cancelled")

    def _note(self, now: float, kind: Kind, question: Question, by: str = "", reason: str = "") -> None:
        if kind == "refused" and len(self._trail) >= self._limits.trail:
            return  # refusals have no bound of their own; what was released or denied is always noted
        self._trail.append(
            Entry(
                now,
                kind,
                id=question.id,
                flow=question.flow.id,
                identity=question.identity,
                target=question.target,
                rule=question.decision.rule,
                revision=question.decision.revision,
                by=by,
                reason=reason,
            )
        )

    # -- grants ----------------------------------------------------------------------------------------------

    def _grant(self, question: Question, by: str, now: float) -> None:
        seconds = _reuse(_approval(question).reuse)
        if seconds is None or not _bindable(question):
            return
        key = _fingerprint(question)
        self._grants.pop(key, None)
        while len(self._grants) >= self._limits.grants:
            del self._grants[next(iter(self._grants))]
        flow = "" if seconds else question.flow.id
        self._grants[key] = _Grant(by, question.decision.revision, flow, now + seconds if seconds else 0.0)

    def _grant_for(self, question: Question, now: float) -> _Grant | None:
        if question.decision.revision != self._revision or not _bindable(question):
            return None
        key = _fingerprint(question)
        grant = self._grants.get(key)
        if grant is None or _reuse(_approval(question).reuse) is None:
            return None
        if grant.until and now >= grant.until:
            del self._grants[key]
            return None
        return grant


def _approval(question: Question) -> Approval:
    return question.decision.approval or Approval()


def _reuse(text: str) -> float | None:
    """Return the seconds a grant lives, 0 for as long as the session, None for no grant at all."""
    if text == "session":
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _size(question: Question) -> int:
    return len(question.raw) + len(question.text)


def _identity(question: Question) -> str:
    """Return whose a question is. A process nobody named is of its unit: below that a vendor may make cgroups."""
    process = question.flow.process
    return question.identity or (process.vendor if process else "")


def _process(question: Question) -> tuple[int, int] | str:
    """Return what names the process for ever; a process nobody could name is its connection."""
    process = question.flow.process
    return (process.pid, process.started_ns) if process else question.flow.id


def _bindable(question: Question) -> bool:
    """Return whether a grant can be bound to it: to a process that is named and bytes that are told, no password."""
    return question.flow.process is not None and bool(question.raw)


def _fingerprint(question: Question) -> bytes:
    """Return a digest of everything a grant is bound to.

    The same command of an agent comes from a new process each time, so a process is bound by what it runs
    (_program) and where, not by its number. Bytes alone do not say what they do (an Execute names only a
    portal) and text alone need not be exact, so both count.
    """
    process, decision = question.flow.process, question.decision
    assert process is not None
    approval = _approval(question)
    parts = (
        question.raw,
        _bytes(question.text),
        _bytes(question.identity),
        *map(_bytes, (process.cgroup, str(process.uid), process.container, *_program(process))),
        *map(_bytes, (decision.rule, decision.revision, question.protocol)),
        *map(_bytes, (question.target, "" if question.target else str(question.flow.server))),
        *map(_bytes, (approval.group, str(approval.count))),  # a worker tells: one taken over could ask for less
        _bytes(question.flow.id if approval.reuse == "session" else ""),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))  # so that no cut between parts can be moved
        digest.update(part)
    return digest.digest()


def _program(process: Process | None) -> tuple[str, ...]:
    """Return what a process runs: file and script by name and content, and what took its place since it connected."""
    if process is None:
        return ()
    script = (process.script, process.script_sha256)
    return (process.exe, process.package, process.sha256, *script, *_program(process.became))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
