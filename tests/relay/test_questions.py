"""Workers and the desk of approvals: each has a say in its own questions only, and the trail comes first."""

import json
import time
from pathlib import Path

import msgspec
import pytest

from appliance.control.approvals import Approvals
from appliance.model import Address, Answered, Approval, Decision, Flow, Process, Question
from appliance.service import questions
from appliance.service.questions import Questions, Trail

SERVER = Address("10.0.0.1", 5432)


def question(id: str, flow: str = "f1", key: bytes = b"", reuse: str = "once") -> Question:
    decision = Decision("approve", "ask", revision="r1", approval=Approval(reuse=reuse))
    process = Process(1, 1, "/bin/x", ("x",), "acme.service", 0)
    whose = Flow(flow, 0.0, Address("127.0.0.1", 1), SERVER, process)
    now = time.time()
    return Question(id, whose, "acme", "db", "postgres", "drop", b"drop", decision, now, now + 60, key)


class Desk:
    """Questions with what went to the workers."""

    def __init__(self, path: Path) -> None:
        self.approvals = Approvals("r1")
        self.trail = Trail(path)
        self.sent: list[tuple[int, str, bool]] = []
        self.questions = Questions(self.approvals, self.trail, self._send, "vendorgate")
        self.path = path

    def _send(self, worker: int, answered: Answered) -> None:
        self.sent.append((worker, answered.id, answered.approved))

    def pending(self) -> list[str]:
        return [held.id for held in self.approvals.pending(time.time())]

    def kinds(self) -> list[str]:
        paths = (self.path.with_name(questions.ASKED), self.path)
        return [json.loads(line)["kind"] for path in paths if path.exists() for line in path.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "approvals.jsonl")


def test_answer_goes_to_the_worker_that_asked(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1", "f1"))
    desk.questions.ask(1, question("f2-1", "f2"))
    assert desk.questions.review("f2-1", "dana", frozenset(), True, "fine").result == "done"
    assert desk.sent == [(1, "f2-1", True)]
    assert desk.pending() == ["f1-1"]
    assert desk.kinds() == ["asked", "asked", "approved"]


def test_worker_has_no_say_in_questions_of_another(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1", "f1"))
    desk.questions.withdraw(1, "f1-1", "mine")
    desk.questions.over(1, "f1")
    desk.questions.ask(1, question("f1-1", "f1"))
    desk.questions.ask(1, question("f1-9", "f1"))
    assert desk.pending() == ["f1-1"]
    assert desk.sent == [(1, "f1-1", False), (1, "f1-9", False)]
    desk.questions.review("f1-1", "dana", frozenset(), True, "")
    assert desk.sent[-1] == (0, "f1-1", True)


def test_same_id_asked_twice_is_denied(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1"))
    desk.questions.ask(0, question("f1-1"))
    assert desk.sent == [(0, "f1-1", False)]
    assert desk.pending() == ["f1-1"]


def test_user_of_the_workers_reviews_nothing(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1"))
    assert desk.questions.review("f1-1", "vendorgate", frozenset(), True, "").result == "forbidden"
    assert desk.pending() == ["f1-1"]


def test_questions_of_a_dead_worker_are_gone(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1", "f1"))
    desk.questions.ask(1, question("f2-1", "f2"))
    desk.questions.gone(0)
    assert desk.pending() == ["f2-1"]
    assert desk.questions.review("f1-1", "dana", frozenset(), True, "").result == "absent"
    assert desk.sent == []


def test_cancel_answers_the_worker_that_holds_it(desk: Desk) -> None:
    desk.questions.ask(1, question("f1-1", key=b"key"))
    desk.questions.cancel(SERVER, b"key")
    assert desk.sent == [(1, "f1-1", False)]


def test_grant_of_a_session_ends_with_its_flow(desk: Desk) -> None:
    desk.questions.ask(0, question("f1-1", reuse="session"))
    desk.questions.review("f1-1", "dana", frozenset(), True, "")
    desk.questions.ask(0, question("f1-2", reuse="session"))
    assert desk.sent[-1] == (0, "f1-2", True)
    desk.questions.over(0, "f1")
    desk.questions.ask(0, question("f1-3", reuse="session"))
    assert desk.pending() == ["f1-3"]


def test_expired_questions_are_answered(desk: Desk) -> None:
    late = question("f1-1")
    desk.questions.ask(0, late)
    desk.approvals._asked["f1-1"] = msgspec.structs.replace(late, expires=time.time() - 1)
    desk.questions.tick()
    assert desk.sent == [(0, "f1-1", False)]


def test_nothing_is_approved_while_the_trail_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    desk = Desk(folder / "approvals.jsonl")
    desk.questions.ask(0, question("f1-1"))
    assert desk.questions.review("f1-1", "dana", frozenset(), True, "").result == "unavailable"
    assert desk.pending() == ["f1-1"]
    folder.mkdir()
    assert desk.questions.review("f1-1", "dana", frozenset(), True, "").result == "done"
    assert desk.kinds() == ["asked", "approved"]
    assert desk.sent == [(0, "f1-1", True)]


def test_approval_whose_line_of_the_trail_is_lost_is_a_denial(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    desk = Desk(folder / "approvals.jsonl")
    desk.questions.ask(0, question("f1-1", reuse="60"))
    desk.questions.review("f1-1", "dana", frozenset(), True, "")
    desk.path.unlink()
    desk.path.with_name(questions.ASKED).unlink()
    folder.rmdir()
    desk.questions.ask(0, question("f1-2", reuse="60"))  # a grant is in force
    assert desk.sent == [(0, "f1-1", True), (0, "f1-2", False)]


def test_max_trail_sets_aside_what_vendors_did_and_keeps_what_people_did(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MAX_TRAIL", 500)
    desk.questions.ask(0, question("f0-1"))
    desk.questions.review("f0-1", "dana", frozenset(), True, "")
    for number in range(1, 9):
        desk.questions.ask(0, question(f"f{number}-1", f"f{number}"))
    asked = desk.path.with_name(questions.ASKED)
    assert asked.with_suffix(".1.jsonl").exists()
    assert not asked.exists() or asked.stat().st_size <= 500 + 300
    assert [json.loads(line)["by"] for line in desk.path.read_text().splitlines()] == ["dana"]
