"""Approvals as playbooks with explicit time: what was asked, who answered, what was released."""

import itertools
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.control.approvals import MAX_REASON, Approvals, Limits
from appliance.control.desk import MAX_SHOWN, held
from appliance.model import Address, Answered, Approval, Decision, Flow, Process, Question

SERVER = Address("10.0.3.2", 5432)
PSQL = Process(
    41, 7_000, "/usr/bin/psql", ("psql", "-c", "create table t()"), "acme.service", 1001, "psql-15"
)


def question(
    id: str = "q1",
    *,
    text: str = "create table t()",
    raw: bytes = b"Q\0\0\0\x15create table t()\0",
    now: float = 100.0,
    process: Process | None = PSQL,
    flow: str = "f1",
    **of: Any,
) -> Question:
    approval = Approval(
        of.pop("group", "dba"), of.pop("count", 1), of.pop("within", 60.0), of.pop("reuse", "once")
    )
    rule, revision = of.pop("rule", "schema-needs-a-dba"), of.pop("revision", "r1")
    decision = Decision("approve", rule, "10.yaml", revision, "ask", approval=approval)
    fields = {"identity": "acme", "target": "orders-db", "protocol": "postgres", "cancel_key": b"key", **of}
    opened = Flow(flow, 1.0, Address("127.0.0.1", 4000), SERVER, process)
    return Question(
        id=id,
        flow=opened,
        text=text,
        raw=raw,
        decision=decision,
        asked=now,
        expires=now + approval.within_s,
        **fields,
    )


def yes(
    desk: Approvals, id: str = "q1", by: str = "ann", groups: tuple[str, ...] = ("dba",), now: float = 101.0
):
    return desk.answer(id, by, groups, approved=True, reason="", now=now)


def no(
    desk: Approvals, id: str = "q1", by: str = "ann", groups: tuple[str, ...] = ("dba",), now: float = 101.0
):
    return desk.answer(id, by, groups, approved=False, reason="not today", now=now)


def kinds(desk: Approvals) -> list[str]:
    return [entry.kind for entry in desk.take()]


# -- one question ---------------------------------------------------------------------------------------------------


def test_a_question_waits_until_it_is_approved() -> None:
    desk = Approvals("r1")
    assert desk.ask(question(), 100) is None
    assert [q.id for q in desk.pending(100)] == ["q1"]
    reply = yes(desk)
    assert reply.result == "done"
    assert reply.answered == Answered("q1", True, "ann", "")
    assert desk.pending(101) == []
    assert kinds(desk) == ["asked", "approved"]


def test_one_denial_denies() -> None:
    desk = Approvals("r1")
    desk.ask(question(count=3), 100)
    yes(desk, by="ann")
    reply = no(desk, by="bob")
    assert reply.answered == Answered("q1", False, "bob", "not today")
    assert yes(desk, by="cid").result == "absent"
    assert kinds(desk) == ["asked", "vote", "denied"]


def test_count_needs_distinct_approvers() -> None:
    desk = Approvals("r1")
    desk.ask(question(count=2), 100)
    assert yes(desk, by="ann").result == "waiting"
    assert yes(desk, by="ann").result == "repeated"
    assert desk.pending(101)[0].approved_by == ("ann",)
    reply = yes(desk, by="bob")
    assert reply.answered is not None and reply.answered.by == "ann, bob"


@pytest.mark.parametrize(
    ("group", "by", "groups", "result"),
    [
        ("dba", "ann", ("dba",), "done"),
        ("dba", "ann", ("ops",), "forbidden"),
        ("dba", "ann", (), "forbidden"),
        ("dba", "dba", (), "forbidden"),
        ("dba", "root", (), "done"),
        ("", "ann", (), "done"),
    ],
)
@pytest.mark.parametrize("approved", [True, False])
def test_only_the_group_answers_and_root_always(
    group: str, by: str, groups: tuple[str, ...], result: str, approved: bool
) -> None:
    desk = Approvals("r1")
    desk.ask(question(group=group), 100)
    reply = desk.answer("q1", by, groups, approved=approved, reason="", now=101)
    assert reply.result == result
    if reply.answered:
        assert reply.answered.by == by
    else:
        assert kinds(desk) == ["asked", "refused"]
        assert len(desk.pending(101)) == 1


def test_expiry_denies() -> None:
    desk = Approvals("r1")
    desk.ask(question(within=60.0), 100)
    assert desk.expire(159.9) == []
    assert desk.expire(160) == [Answered("q1", False, "vendorgate", "approval timed out")]
    assert yes(desk, now=160).result == "absent"


def test_an_answer_after_the_time_is_late_though_nobody_swept() -> None:
    desk = Approvals("r1")
    desk.ask(question(within=60.0), 100)
    assert desk.pending(160) == []
    reply = yes(desk, now=160)
    assert reply.result == "absent"
    assert reply.answered == Answered("q1", False, "vendorgate", "approval timed out")


def test_a_question_asked_too_late_is_denied() -> None:
    desk = Approvals("r1")
    answer = desk.ask(question(within=60.0), 160)
    assert answer is not None and not answer.approved


def test_withdrawn_is_gone() -> None:
    desk = Approvals("r1")
    desk.ask(question(), 100)
    desk.withdraw("q1", "client left", 101)
    desk.withdraw("q1", "client left", 101)
    assert yes(desk).result == "absent"
    assert kinds(desk) == ["asked", "withdrawn"]


def test_a_cancel_of_its_connection_takes_it_back() -> None:
    desk = Approvals("r1")
    desk.ask(question(), 100)
    assert desk.cancel(Address("10.0.3.3", 5432), b"key", 101) == []
    assert desk.cancel(SERVER, b"other", 101) == []
    assert desk.cancel(SERVER, b"key", 101) == [
        Answered("q1", False, "client", "cancelled by the client", cancelled=True)
    ]


def test_an_empty_key_cancels_nothing() -> None:
    desk = Approvals("r1")
    desk.ask(question(cancel_key=b""), 100)
    assert desk.cancel(SERVER, b"", 101) == []


def test_nothing_survives_a_restart() -> None:
    first = Approvals("r1")
    first.ask(question(reuse="3600"), 100)
    yes(first)
    first.ask(question("q2", text="other"), 102)
    second = Approvals("r1")
    assert second.pending(103) == []
    assert yes(second, "q2").result == "absent"
    assert second.ask(question("q3", reuse="3600"), 103) is None


def test_a_second_question_of_one_id_is_refused() -> None:
    desk = Approvals("r1")
    desk.ask(question(), 100)
    answer = desk.ask(question(text="drop table t"), 100)
    assert answer is not None and not answer.approved
    assert desk.pending(100)[0].message == "create table t()"


def test_the_reason_of_a_reviewer_is_cut() -> None:
    desk = Approvals("r1")
    desk.ask(question(), 100)
    reply = desk.answer("q1", "ann", {"dba"}, approved=False, reason="x" * (MAX_REASON + 1), now=101)
    assert reply.answered is not None and len(reply.answered.reason) == MAX_REASON


def test_within_defaults_to_ten_minutes_and_one_approver() -> None:
    assert Approval() == Approval(group="", count=1, within_s=600.0, reuse="once")


# -- grants ---------------------------------------------------------------------------------------------------------


def granted(reuse: str, revision: str = "r1") -> Approvals:
    desk = Approvals(revision)
    desk.ask(question(reuse=reuse), 100)
    yes(desk)
    desk.take()
    return desk


def test_once_leaves_no_grant() -> None:
    assert granted("once").ask(question("q2"), 102) is None


def test_a_grant_answers_the_same_request_and_says_whose_it_is() -> None:
    desk = granted("1800")
    answer = desk.ask(question("q2", reuse="1800", flow="f2"), 102)
    assert answer == Answered("q2", True, "grant of ann", "the same request was approved before")
    assert kinds(desk) == ["reused"]


def test_a_grant_ends_with_its_seconds() -> None:
    desk = granted("1800")  # approved at 101
    assert desk.ask(question("q2", reuse="1800", now=1900.9), 1900.9) is not None
    assert desk.ask(question("q3", reuse="1800", now=1901), 1901) is None


def test_a_session_grant_holds_for_its_flow_only() -> None:
    desk = granted("session")
    assert desk.ask(question("q2", reuse="session"), 102) is not None
    assert desk.ask(question("q3", reuse="session", flow="f2"), 102) is None


def test_a_session_grant_ends_with_its_flow() -> None:
    desk = granted("session")
    desk.ended("f1", 103)
    assert desk.ask(question("q2", reuse="session"), 104) is None


def test_the_end_of_a_flow_withdraws_its_questions() -> None:
    desk = Approvals("r1")
    desk.ask(question(), 100)
    desk.ask(question("q2", flow="f2"), 100)
    desk.ended("f1", 101)
    assert [q.id for q in desk.pending(101)] == ["q2"]


def test_a_denial_leaves_no_grant() -> None:
    desk = Approvals("r1")
    desk.ask(question(reuse="1800"), 100)
    no(desk)
    assert desk.ask(question("q2", reuse="1800"), 102) is None


def test_a_reload_voids_grants() -> None:
    desk = granted("1800")
    desk.reload("r2", 102)
    assert kinds(desk) == ["voided"]
    assert desk.ask(question("q2", reuse="1800", revision="r2"), 103) is None
    desk.reload("r1", 104)
    assert desk.ask(question("q3", reuse="1800", now=104, process=None), 104) is None


def test_a_reload_of_the_same_revision_keeps_grants() -> None:
    desk = granted("1800")
    desk.reload("r1", 102)
    assert desk.ask(question("q2", reuse="1800"), 103) is not None


def test_an_answer_to_a_question_of_older_rules_leaves_no_grant() -> None:
    desk = Approvals("r1")
    desk.ask(question(reuse="1800"), 100)
    desk.reload("r2", 100.5)
    reply = yes(desk)
    assert "judged anew" in reply.text
    assert reply.answered is not None and reply.answered.approved  # the session holds it void, and asks again
    assert desk.ask(question("q2", reuse="1800", revision="r2"), 102) is None
    assert desk.ask(question("q3", reuse="1800", revision="r1"), 102) is None


def test_a_process_nobody_could_name_gets_no_grant() -> None:
    desk = Approvals("r1")
    desk.ask(question(reuse="1800", process=None), 100)
    yes(desk)
    assert desk.ask(question("q2", reuse="1800", process=None), 102) is None


def test_a_grant_names_all_who_gave_it() -> None:
    desk = Approvals("r1")
    desk.ask(question(reuse="60", count=2), 100)
    yes(desk, by="ann")
    yes(desk, by="bob")
    answer = desk.ask(question("q2", reuse="60", count=2), 102)
    assert answer is not None and answer.by == "grant of ann, bob"


@pytest.mark.parametrize("reuse", ["", "never", "-1", "0", "nan", "inf"])
def test_a_reuse_that_says_nothing_is_once(reuse: str) -> None:
    assert granted(reuse).ask(question("q2", reuse=reuse), 102) is None


OTHERS = {
    "bytes": {"raw": b"Q\0\0\0\x15create table t()\1"},
    "text": {"text": "create table t() "},
    "identity": {"identity": "acme-psql"},
    "target": {"target": "payments"},
    "protocol": {"protocol": "mysql"},
    "rule": {"rule": "other"},
    "revision": {"revision": "r2"},
    "exe": {"process": msgspec.structs.replace(PSQL, exe="/tmp/psql")},
    "cgroup": {"process": msgspec.structs.replace(PSQL, cgroup="other.service")},
    "user": {"process": msgspec.structs.replace(PSQL, uid=1002)},
    "package": {"process": msgspec.structs.replace(PSQL, package="")},
    "file": {"process": msgspec.structs.replace(PSQL, sha256="ab" * 32)},
    "script": {"process": msgspec.structs.replace(PSQL, script="/srv/other.py")},
    "script's text": {"process": msgspec.structs.replace(PSQL, script_sha256="ab" * 32)},
    "container": {"process": msgspec.structs.replace(PSQL, container="0123456789ab")},
    "program that took its place": {"process": msgspec.structs.replace(PSQL, became=PSQL)},
    "unnamed process": {"process": None},
    "group": {"group": "security"},
    "count": {"count": 2},
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("reuse", ["1800", "session"])
def test_a_grant_covers_nothing_else(other: str, reuse: str) -> None:
    assert granted(reuse).ask(question("q2", reuse=reuse, **OTHERS[other]), 102) is None


def test_bytes_that_are_not_told_are_asked_about_every_time() -> None:
    """Two passwords look alike to who approves one of them."""
    desk = Approvals("r1")
    hidden = "CONFIG SET requirepass (redacted)"
    desk.ask(question(text=hidden, raw=b"", reuse="1800"), 100)
    yes(desk)
    assert desk.ask(question("q2", text=hidden, raw=b"", reuse="1800"), 102) is None


def test_a_grant_covers_a_new_process_of_the_same_program() -> None:
    again = msgspec.structs.replace(PSQL, pid=99, started_ns=9_000)
    assert granted("1800").ask(question("q2", reuse="1800", process=again), 102) is not None


def test_a_target_without_a_name_is_its_address() -> None:
    desk = Approvals("r1")
    desk.ask(question(reuse="1800", target=""), 100)
    yes(desk)
    other = question("q2", reuse="1800", target="")
    moved = msgspec.structs.replace(
        other, flow=msgspec.structs.replace(other.flow, server=Address("10.0.3.9", 5432))
    )
    assert desk.ask(moved, 102) is None
    assert desk.ask(msgspec.structs.replace(other, id="q3"), 102) is not None


# -- limits ---------------------------------------------------------------------------------------------------------


def ask_many(desk: Approvals, n: int, **of: Any) -> list[Answered | None]:
    return [desk.ask(question(f"m{i}", **of), 100) for i in range(n)]


def test_limit_of_one_process() -> None:
    desk = Approvals("r1")
    answers = ask_many(desk, Limits().process + 1)
    assert answers[:-1] == [None] * 20
    assert answers[-1] is not None and answers[-1].reason == "too many held requests of this process (20)"
    other = msgspec.structs.replace(PSQL, pid=42)
    assert desk.ask(question("q2", process=other), 100) is None


def test_limit_of_one_identity() -> None:
    desk = Approvals("r1")
    processes = [msgspec.structs.replace(PSQL, pid=n) for n in range(Limits().identity + 1)]
    answers = [desk.ask(question(f"m{p.pid}", process=p), 100) for p in processes]
    assert answers[:-1] == [None] * 250
    assert answers[-1] is not None and answers[-1].reason == "too many held requests of this identity (250)"
    assert desk.ask(question("q2", identity="beta", process=processes[-1]), 100) is None


def test_a_vendor_nobody_named_has_no_more_room_by_cgroups_of_its_own() -> None:
    desk = Approvals("r1")
    processes = [
        msgspec.structs.replace(PSQL, pid=n, cgroup=f"acme.service/part{n % 5}") for n in range(Limits().identity + 1)
    ]
    answers = [desk.ask(question(f"m{p.pid}", process=p, identity=""), 100) for p in processes]
    assert answers[:-1] == [None] * 250
    assert answers[-1] is not None and answers[-1].reason == "too many held requests of this identity (250)"


def test_limit_of_bytes_of_one_identity_leaves_room_for_others() -> None:
    desk = Approvals("r1")
    large = {"text": "", "raw": b"x" * (1 << 20)}
    answers = ask_many(desk, 5, **large)
    assert answers[:-1] == [None] * 4
    assert answers[-1] is not None
    assert answers[-1].reason == "held requests of this identity take all its room (4194304 bytes)"
    assert desk.ask(question("q2", identity="beta", process=None, flow="g", **large), 100) is None


def test_limit_in_all() -> None:
    desk = Approvals("r1")
    for n in range(Limits().total):
        assert desk.ask(question(f"m{n}", process=None, flow=f"f{n}", identity=f"i{n}"), 100) is None
    answer = desk.ask(question("q2", process=None, flow="g", identity="g"), 100)
    assert answer is not None and answer.reason == "too many held requests in all (1000)"


def test_limit_of_one_question() -> None:
    desk = Approvals("r1")
    assert desk.ask(question(text="", raw=b"x" * (1 << 20)), 100) is None
    answer = desk.ask(question("q2", text="x", raw=b"x" * (1 << 20)), 100)
    assert answer is not None and "too large to review" in answer.reason


def test_limit_of_bytes_in_all_and_room_comes_back() -> None:
    desk = Approvals("r1", Limits(process=99, bytes=1000))
    assert ask_many(desk, 2, text="", raw=b"x" * 500) == [None, None]
    answer = desk.ask(question("q2", text="", raw=b"x"), 100)
    assert answer is not None and "all the room" in answer.reason
    desk.withdraw("m0", "left", 101)
    assert desk.ask(question("q3", text="", raw=b"x" * 500), 100) is None


def test_limit_of_grants_drops_the_oldest() -> None:
    desk = Approvals("r1", Limits(grants=2))
    for n in range(3):
        desk.ask(question(f"q{n}", text=f"t{n}", reuse="1800"), 100)
        yes(desk, f"q{n}")
    answers = [desk.ask(question(f"p{n}", text=f"t{n}", reuse="1800"), 102) for n in range(3)]
    assert [a is not None for a in answers] == [False, True, True]


def test_a_full_trail_releases_nothing() -> None:
    desk = Approvals("r1", Limits(trail=2))
    desk.ask(question("q1"), 100)
    desk.ask(question("q2"), 100)
    assert yes(desk, "q1").result == "unavailable"
    answer = desk.ask(question("q3"), 100)
    assert answer is not None and "not being recorded" in answer.reason
    assert no(desk, "q2").answered is not None  # a denial needs no room
    assert kinds(desk) == ["asked", "asked", "denied"]
    assert yes(desk, "q1").result == "done"


def test_refusals_do_not_fill_the_memory() -> None:
    desk = Approvals("r1", Limits(trail=2))
    desk.ask(question(), 100)
    for _ in range(10):
        no(desk, groups=())
    assert kinds(desk) == ["asked", "refused"]


def test_default_limits() -> None:
    assert Limits() == Limits(20, 250, 1000, 1 << 20, 16 << 20, 10_000, 10_000, 4 << 20)


# -- what the reviewer sees -----------------------------------------------------------------------------------------


def test_a_reviewer_sees_process_message_and_rule() -> None:
    shown = held(question(group="dba", count=2))
    assert (shown.process, shown.message, shown.rule, shown.file) == (
        PSQL,
        "create table t()",
        "schema-needs-a-dba",
        "10.yaml",
    )
    assert (shown.group, shown.needed, shown.server) == ("dba", 2, "10.0.3.2:5432")
    assert shown.raw == b"Q\0\0\0\x15create table t()\0"


def test_a_long_message_is_cut_in_lists_with_its_size_and_digest() -> None:
    long = held(question(raw=b"x" * (MAX_SHOWN + 1)))
    assert (len(long.raw), long.size) == (MAX_SHOWN, MAX_SHOWN + 1)
    assert long.sha256 == sha256(b"x" * (MAX_SHOWN + 1)).hexdigest()


def test_bytes_that_are_no_utf8_are_shown_and_fit_json() -> None:
    odd = msgspec.structs.replace(PSQL, argv=("psql", "\udcff"))
    shown = held(question(text="select '\udcff'", process=odd))
    assert shown.message == r"select '\udcff'"
    assert b"udcff" in msgspec.json.encode(shown)


# -- properties -----------------------------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 5), st.sampled_from(["once", "session", "30"])),
    st.tuples(st.just("yes"), st.integers(0, 5), st.sampled_from(["ann", "bob", "eve", "root"])),
    st.tuples(st.just("no"), st.integers(0, 5), st.sampled_from(["ann", "bob", "eve", "root"])),
    st.tuples(st.just("withdraw"), st.integers(0, 5), st.just("")),
    st.tuples(st.just("cancel"), st.integers(0, 5), st.just("")),
    st.tuples(st.just("wait"), st.integers(1, 40), st.just("")),
    st.tuples(st.just("reload"), st.integers(1, 3), st.just("")),
    st.tuples(st.just("ended"), st.integers(0, 5), st.just("")),
)
MEMBERS = {"ann": {"dba"}, "bob": {"dba"}, "eve": {"ops"}, "root": set()}


class Play:
    """Runs random steps; remembers by simple means what may have been released."""

    def __init__(self) -> None:
        self.desk = Approvals("r1")
        self.now, self.revision, self.serial = 1000.0, "r1", itertools.count()
        self.ids: dict[int, str] = {}
        self.over: dict[str, str] = {}
        self.yes: dict[str, set[str]] = {}
        self.asked: dict[str, Question] = {}
        self.released: list[tuple[Question, float]] = []

    def end(self, answer: Answered | None, how: str) -> None:
        if answer is None:
            return
        assert answer.id not in self.over, f"{answer.id} was {self.over[answer.id]}, then {how}"
        self.over[answer.id] = how
        if answer.approved:
            question = self.asked[answer.id]
            assert self.now < question.expires
            if answer.by.startswith("grant of "):
                assert any(self.same(question, other, at) for other, at in self.released)
            else:
                assert len(self.yes[answer.id] & {"ann", "bob", "root"}) >= 2
                self.released.append((question, self.now))

    def same(self, question: Question, other: Question, at: float) -> bool:
        reuse = question.decision.approval.reuse if question.decision.approval else ""
        if reuse == "once" or (reuse == "session" and question.flow.id != other.flow.id):
            return False
        if reuse == "30" and self.now - at >= 30:
            return False
        return (question.raw, question.text, question.decision, question.flow.process) == (
            other.raw,
            other.text,
            other.decision,
            other.flow.process,
        ) and question.decision.revision == self.revision

    def step(self, what: str, n: int, how: str) -> None:
        id = self.ids.get(n, "none")
        match what:
            case "ask":
                id = self.ids[n] = f"q{next(self.serial)}"
                made = question(
                    id, text=f"t{n % 2}", now=self.now, flow=f"f{n}", revision=self.revision, reuse=how, count=2,
                    cancel_key=b"%d" % n,
                )  # fmt: skip
                self.asked[id], self.yes[id] = made, set()
                self.end(self.desk.ask(made, self.now), "asked")
            case "yes" | "no":
                if what == "yes":
                    self.yes.setdefault(id, set()).add(how)
                reply = self.desk.answer(
                    id, how, MEMBERS[how], approved=what == "yes", reason="", now=self.now
                )
                assert what == "yes" or not (reply.answered and reply.answered.approved)
                self.end(reply.answered, what)
            case "withdraw":
                self.desk.withdraw(id, "left", self.now)
                self.over.setdefault(id, "withdrawn")
            case "cancel":
                for answer in self.desk.cancel(SERVER, b"%d" % n, self.now):
                    assert not answer.approved
                    self.end(answer, "cancelled")
            case "wait":
                self.now += n
                for answer in self.desk.expire(self.now):
                    assert not answer.approved
                    self.end(answer, "expired")
            case "reload":
                self.revision = f"r{n}"
                self.desk.reload(self.revision, self.now)
            case "ended":
                self.desk.ended(f"f{n}", self.now)
                for id, q in self.asked.items():
                    if q.flow.id == f"f{n}":
                        self.over.setdefault(id, "ended")


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_path_leads_from_an_end_to_approved_and_no_grant_reaches_further(
    steps: list[tuple[str, int, str]],
) -> None:
    play = Play()
    for what, n, how in steps:
        play.step(what, n, how)
        waiting = {q.id for q in play.desk.pending(play.now)}
        assert waiting == play.asked.keys() - play.over.keys()
