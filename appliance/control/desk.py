"""What the control interface and its clients say to each other: the values, and the struct the service fills.

Text that came from a governed process may hold bytes that are no UTF-8 (kept as lone surrogates); `plain`
makes it fit for JSON. Making it fit for a terminal is the client's work.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from appliance.model import Answered, Process, Question
from appliance.record.export import Export
from appliance.record.frame import Frame
from appliance.record.session import Filter, Session

MAX_SHOWN = 64 * 1024  # bytes of a held message in a list; the whole is at /approvals/ID


class Held(msgspec.Struct, frozen=True, gc=False):
    """A question as a reviewer sees it."""

    id: str
    asked: float  # unix seconds
    expires: float
    identity: str
    process: Process | None
    target: str
    server: str
    protocol: str
    message: str  # what it says, with its parameters
    rule: str
    reason: str  # of the rule
    file: str
    revision: str
    raw: bytes  # exactly what will be released; base64 in JSON
    size: int  # bytes of the whole `raw`
    sha256: str  # of the whole `raw`
    group: str
    needed: int
    approved_by: tuple[str, ...]
    flow: str


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came of one reviewer's answer."""

    result: Literal["done", "waiting", "absent", "forbidden", "repeated", "unavailable"]
    text: str
    answered: Answered | None = None  # for the session that waits; set when the question is over


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reviewer says: the body of POST /approvals/ID."""

    approve: bool
    reason: str = ""


class Change(msgspec.Struct, frozen=True):
    """One line of the watch: a question came, got a vote, or is gone."""

    event: Literal["asked", "vote", "gone"]
    id: str
    question: Held | None = None


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an incident responder says: the body of POST /contain."""

    do: Literal["freeze", "thaw", "kill", "observe"]
    who: str = ""  # an identity, or a cgroup below the slice
    all: bool = False  # the slice itself
    reason: str = ""
    pid: int = 0  # to be observed: of `who`, its cgroup, this process only


class Contained(msgspec.Struct, frozen=True):
    """What came of it."""

    done: str
    cgroups: tuple[str, ...]
    processes: int
    text: str


class Reloaded(msgspec.Struct, frozen=True):
    """What came of POST /reload."""

    revision: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the appliance. A mapping is open: name -> figure, printed as it comes."""

    ready: bool
    version: str = ""
    compiled: bool = False  # what every message passes through is machine code (appliance/compiled)
    started: float = 0.0  # unix seconds; 0: not running
    rules_revision: str = ""
    rules_error: str = ""  # why the files on disk are not the rules in force
    coverage: Mapping[str, Any] = {}
    fence: Mapping[str, Any] = {}
    losses: Mapping[str, int] = {}
    workers: Mapping[str, Any] = {}
    engine: Mapping[str, Any] = {}  # of packets; empty where the rules need none
    pending: int = 0
    frozen: tuple[str, ...] = ()  # cgroups that stand still
    problems: tuple[str, ...] = ()


class Desk(msgspec.Struct, frozen=True):
    """What the control interface can ask for.

    `sessions`, `session` and `export` read files and are called in a thread, one at a time; `contain` in another;
    the others on the loop.
    """

    status: Callable[[], Status]
    sessions: Callable[[Filter], Sequence[Session]]
    session: Callable[[str], Session | None]  # by its whole id
    frames: Callable[[str], Iterator[Frame]]  # of one session, by its whole id; KeyError if there is none
    approvals: Callable[[], Sequence[Held]]
    question: Callable[[str], Held | None]  # with its whole message
    answer: Callable[[str, str, frozenset[str], bool, str], Reply]  # id, by, groups, approved, reason
    reload: Callable[[str], str]  # by -> revision in force; raises ConfigError
    contain: Callable[[Order, str], Contained]  # order, by; may wait; ConfigError: it is nobody; HostError
    export: Callable[[Export, str], Iterator[bytes]]  # what, by; ConfigError, KeyError, HostError; b"": goes on


def held(question: Question) -> Held:
    """Return a question as a reviewer sees it, with at most MAX_SHOWN bytes of the message itself."""
    decision = question.decision
    approval = decision.approval
    return Held(
        id=question.id,
        asked=question.asked,
        expires=question.expires,
        identity=question.identity,
        process=plain_process(question.flow.process),
        target=question.target,
        server=str(question.flow.server),
        protocol=question.protocol,
        message=plain(question.text),
        rule=decision.rule,
        reason=plain(decision.reason),
        file=decision.file,
        revision=decision.revision,
        raw=question.raw[:MAX_SHOWN],
        size=len(question.raw),
        sha256=hashlib.sha256(question.raw).hexdigest(),
        group=approval.group if approval else "",
        needed=approval.count if approval else 1,
        approved_by=(),
        flow=question.flow.id,
    )


def plain(text: str) -> str:
    """Return `text` with what UTF-8 cannot say written as a backslash escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain_process(process: Process | None) -> Process | None:
    """Return a process with all its texts fit for JSON."""
    if process is None:
        return None
    texts = ("exe", "cgroup", "package", "script", "unit", "container")
    return msgspec.structs.replace(
        process,
        argv=tuple(map(plain, process.argv)),
        parents=tuple(map(plain, process.parents)),
        became=plain_process(process.became),
        **{name: plain(getattr(process, name)) for name in texts},
    )
