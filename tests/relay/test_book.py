"""What a process keeps of its flows' notes: by one write, and each flow by itself when that write fails."""

import os
from pathlib import Path

import msgspec
import pytest

from appliance.model import Decision, Flow, Note
from appliance.policy import Policy
from appliance.record import frame
from appliance.record.log import Log
from appliance.record.read import read
from appliance.relay.channel import Contain, Recorded
from appliance.service.book import Book
from tests.record.samples import C, asked, flow, opened, rows
from tests.session.test_session import rules

HARSH = "\n  - {id: harsh, do: block, on_incident: freeze}\n"


class Disk:
    """Counts what is written, and fails the next ones a test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.writes = self.fails = 0
        self._write = os.write
        patch.setattr(os, "write", self)

    def __call__(self, descriptor: int, data: bytes) -> int:
        self.writes += 1
        if self.fails:
            self.fails -= 1
            raise OSError(28, "No space left on device")
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Place:
    """A book, and what it told."""

    def __init__(self, directory: Path, required: bool = True, policy: Policy | None = None) -> None:
        log = Log(directory, "w0")
        self.told: list[Contain | Recorded] = []
        self.lost: list[tuple[str, int]] = []
        self.appended = 0
        self.book = Book(log, required, self.told.append, self._lost, self._appended)
        self.book.judge_by(policy or rules("\n  - {id: rest, do: allow}\n"))
        self.directory = directory

    def _lost(self, one: Flow, notes: int, error: OSError) -> None:
        self.lost.append((one.id, notes))

    def _appended(self) -> None:
        self.appended += 1

    def kept(self) -> list[tuple[str, str]]:
        return [(one.id, one.note.kind) for one in read(self.directory)]


ENTRIES = [(flow("f1"), asked("select 1")), (flow("f2"), [rows(b"x")]), (flow("f3"), [rows(b"y"), rows(b"z")])]
KEPT = [("f1", "message"), ("f1", "decision"), ("f2", "message"), ("f3", "message"), ("f3", "message")]


def test_the_notes_of_many_flows_are_one_write(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path)
    assert place.book.keep_all(ENTRIES) == [None, None, None]
    assert (disk.writes, place.appended) == (1, 1)
    assert place.kept() == KEPT


def test_a_write_that_fails_is_tried_flow_by_flow(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path)
    disk.fails = 1
    assert place.book.keep_all(ENTRIES) == [None, None, None]
    assert (disk.writes, place.appended) == (4, 3)
    assert place.kept() == KEPT


def test_a_flow_that_cannot_be_recorded_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(frame, "MAX_FRAME", 1000)
    found = place.book.keep_all([ENTRIES[0], (flow("f2"), [rows(bytes(1000))]), ENTRIES[2]])
    assert found[0] is None and found[2] is None
    assert isinstance(found[1], OSError)
    assert place.kept() == [KEPT[0], KEPT[1], KEPT[3], KEPT[4]]


def test_a_secret_is_the_fault_of_its_flow_only(tmp_path: Path) -> None:
    place = Place(tmp_path)
    secret = Note("message", side=C, message="auth", raw=b"p\0\0\0\x08pw")
    found = place.book.keep_all([ENTRIES[0], (flow("f2"), [secret])])
    assert found[0] is None
    assert isinstance(found[1], AssertionError)
    assert place.kept() == KEPT[:2]
    assert b"pw" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_record_that_is_not_required_loses_what_it_says(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path, required=False)
    disk.fails = 3
    assert place.book.keep_all(ENTRIES) == [None, None, None]
    assert place.lost == [("f1", 2), ("f2", 1)]
    assert place.kept() == KEPT[3:]
    disk.fails = 1
    place.book.keep(*ENTRIES[1])
    assert place.lost[-1] == ("f2", 1)


def test_one_flow_by_itself_is_an_error_when_the_record_is_required(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path)
    disk.fails = 1
    with pytest.raises(OSError, match="No space"):
        place.book.keep(*ENTRIES[0])
    assert place.lost == []


def test_what_a_rule_asks_for_is_asked_once_though_the_write_is_tried_again(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path, policy=rules(HARSH))
    blocked = Note("decision", "drop", decision=Decision("block", "harsh"), id="f1-1")
    disk.fails = 1
    place.book.keep_all([(flow("f1"), [blocked]), ENTRIES[1]])
    assert [(type(one), one.rule) for one in place.told if isinstance(one, Contain)] == [(Contain, "harsh")]
    assert place.kept() == [("f1", "decision"), ("f1", "incident"), ("f2", "message")]


def test_other_rules_count_from_then_on(tmp_path: Path) -> None:
    place = Place(tmp_path)
    blocked = Note("decision", "drop", decision=Decision("block", "harsh"), id="f1-1")
    place.book.keep(flow("f1"), [blocked])
    assert place.told == []
    place.book.judge_by(rules(HARSH))
    place.book.keep(flow("f1"), [blocked])
    assert [type(one) for one in place.told] == [Contain]


def test_the_ledger_is_told_of_a_flow_when_its_first_note_is_kept(tmp_path: Path, disk: Disk) -> None:
    place = Place(tmp_path)
    counted = msgspec.structs.replace(flow("f1"), sequence=7, scope=3, epoch=9)
    disk.fails = 1
    place.book.keep_all([(counted, [opened()]), ENTRIES[1]])
    assert place.told == [Recorded(9, 3, 7)]
    place.book.keep(counted, [rows(b"x")])
    assert len(place.told) == 1
