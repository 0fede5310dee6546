"""A frame is of the worker that wrote it: workers begin segments apart, and speak of their own sessions only."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config.settings import MAX_WORKERS
from appliance.model import HostError
from appliance.record import begun, whose
from appliance.record.begun import BEGUN, Begun
from appliance.record.frame import BadFrame, segments
from appliance.record.index import Index
from appliance.record.keeper import Keeper
from appliance.record.log import Log
from appliance.record.seal import is_open
from appliance.record.session import Filter
from appliance.record.signing import Signer
from appliance.record.walk import Walk
from appliance.service.ids import Ids
from appliance.service.launch import User
from appliance.service.stores import Stores
from tests.record.samples import T, asked, closed, flow, opened
from tests.record.store import SECRET

ME = User("x", os.geteuid(), os.getegid())


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def stores(tmp_path: Path, told: list[str]) -> Stores:
    return Stores(tmp_path, ME, tell=told.append)


def log(place: int, worker: str) -> Log:
    """A worker's, by its descriptor alone."""
    return Log(Path(f"/proc/self/fd/{place}"), worker)


def left(stores: Stores) -> list[str]:
    """What is in the directories of workers."""
    return sorted(path.name for path in (stores.records.parent / BEGUN).rglob("*") if path.is_file())


def test_what_a_worker_began_is_taken_in_and_it_writes_on(stores: Stores, told: list[str]) -> None:
    one = log(stores.place("worker0"), "worker0")
    one.append(flow("a"), [opened()], T)
    assert segments(stores.records) == []
    stores.take()
    (path,) = stores.records.iterdir()
    walk = Walk(path)
    walk.advance()
    one.append(flow("a"), [*asked("select 1"), closed()], T)
    walk.advance()
    assert (walk.items, is_open(path), left(stores)) == (5, True, [])
    one.seal()
    one.append(flow("b"), [opened(), closed()], T + 1)
    stores.take()
    stores.take()
    assert (len(segments(stores.records)), is_open(path), told) == (2, False, [])


def test_what_a_hub_that_was_killed_had_not_taken_in_the_next_one_has(tmp_path: Path) -> None:
    first = Stores(tmp_path, ME)
    log(first.place("worker0"), "worker0").append(flow("a"), [opened(), closed()], T)
    first.close()
    second = Stores(tmp_path, ME)
    assert [one.worker for one in segments(second.records)] == ["worker0"]
    (before,) = (tmp_path / BEGUN).iterdir()
    second.place("worker0")
    (now,) = (tmp_path / BEGUN).iterdir()
    assert before != now, "a directory nobody writes to any more goes when the next is made"


def test_records_on_a_file_system_of_their_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path / "records"], check=True)
    try:
        with pytest.raises(HostError, match="a file system of its own\nhint: mount state_dir"):
            Stores(tmp_path, ME)
    finally:
        subprocess.run(["umount", tmp_path / "records"], check=True)


def test_a_move_that_was_cut_off_is_gone_on_with(stores: Stores, told: list[str]) -> None:
    place = stores.place("worker0")
    log(place, "worker0").append(flow("a"), [opened(), closed()], T)
    (name,) = os.listdir(place)
    os.link(name, stores.records / name, src_dir_fd=place)
    stores.take()
    assert (len(segments(stores.records)), left(stores), told) == (1, [], [])


def test_a_write_that_failed_is_taken_back_wherever_its_segment_is(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    one = log(stores.place("worker0"), "worker0")

    def full(fd: int, data: bytes) -> int:
        stores.take()
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="full"):
            one.append(flow("a"), [opened()], T)
    one.append(flow("a"), [opened(), closed()], T)
    stores.take()
    assert [path.stat().st_size > 0 for path in sorted(stores.records.iterdir())] == [False, True]
    assert one.position == 2


NAME = "worker0.1700000000000.record"
REFUSED: dict[str, Callable[[Path], object]] = {
    "another worker's": lambda home: (home / "worker1.1700000000000.record").write_bytes(b""),
    "the hub's": lambda home: (home / "hub.1700000000000.record").write_bytes(b""),
    "an import's": lambda home: (home / "import-00000000.1700000000000.record").write_bytes(b""),
    "no segment": lambda home: (home / "x.new").write_bytes(b""),
    "a link": lambda home: (home / NAME).symlink_to("/etc/passwd"),
    "a pipe": lambda home: os.mkfifo(home / NAME),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_its_own_segment_is_refused(stores: Stores, told: list[str], what: str) -> None:
    REFUSED[what](Path(f"/proc/self/fd/{stores.place('worker0')}"))
    stores.take()
    stores.take()
    assert list(stores.records.iterdir()) == []
    assert [text.startswith("worker0 began ") for text in told] == [True]
    assert left(stores) == []


def test_a_directory_leads_nowhere(stores: Stores, told: list[str]) -> None:
    place = Path(f"/proc/self/fd/{stores.place('worker0')}")
    (place / "worker0" / NAME).mkdir(parents=True)
    stores.take()
    stores.take()
    assert (list(stores.records.iterdir()), len(told)) == ([], 1)


def test_another_of_that_name_is_not_replaced(stores: Stores, told: list[str]) -> None:
    (stores.records / NAME).write_bytes(b"there before")
    (Path(f"/proc/self/fd/{stores.place('worker0')}") / NAME).write_bytes(b"new")
    stores.take()
    assert (stores.records / NAME).read_bytes() == b"there before"
    assert (left(stores), len(told)) == ([NAME], 1)


def test_max_looked_and_max_told_bound_what_one_worker_has_the_hub_do(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (begun.MAX_LOOKED, begun.MAX_TOLD) == (1_000, 100)
    monkeypatch.setattr(begun, "MAX_LOOKED", 5)
    monkeypatch.setattr(begun, "MAX_TOLD", 7)
    one = Begun(tmp_path / "records", told.append)
    place = Path(f"/proc/self/fd/{one.place('worker0', ME.uid, ME.gid)}")
    for number in range(20):
        (place / str(number)).touch()
    one.take()
    assert (len(told), len(list(place.iterdir()))) == (5, 15)
    for _ in range(3):
        one.take()
    assert (len(told), list(place.iterdir())) == (7, [])
    one.close()


WORKER = """
import os, sys
from pathlib import Path
os.setgroups([]); os.setgid(65534); os.setuid(65534)
mine = Path(f"/proc/self/fd/{sys.argv[1]}")
for one in map(Path, sys.argv[2:]):
    for what in (one.read_bytes, one.unlink, lambda: one.write_bytes(b"x"), lambda: one.rename(mine / "x"),
                 lambda: os.link(one, mine / "x"), lambda: (one.parent / "new").write_bytes(b""), lambda: list(one.parent.iterdir())):
        try:
            what()
        except PermissionError:
            continue
        sys.exit(f"a worker could do it: {one}")
(mine / "worker0.1700000000000.record").write_bytes(b"mine")
"""


def test_a_worker_comes_to_nothing_but_its_own_directory(tmp_path: Path) -> None:
    """Not to what is sealed, nor to what others have open: by the way of its descriptor, or by any name."""
    if os.geteuid() != 0:
        pytest.fail("becoming another user needs root")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    home = tmp_path / "state"
    stores = Stores(home, User("nobody", 65534, 65534))
    home.chmod(0o711)
    theirs = log(stores.place("worker1"), "worker1")
    theirs.append(flow(), [opened(), closed()], T)
    for path in (home / BEGUN).glob("worker1.*/*"):
        os.chown(path, 65534, 65534)
    stores.take()
    (sealed,) = stores.records.iterdir()
    theirs.seal()
    Keeper(home, Signer(SECRET)).round()
    log(stores.place("worker2"), "worker2").append(flow(), [opened()], T)
    (open_,) = (home / BEGUN).glob("worker2.*/*.record")
    os.chown(open_, 65534, 65534)
    mine = stores.place("worker0")
    way = Path(f"/proc/self/fd/{mine}/..")
    targets = [sealed, open_, way / open_.parent.name / open_.name, way / ".." / "records" / sealed.name]
    command = [sys.executable, "-c", WORKER, str(mine), *map(str, targets)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, pass_fds=[mine])
    assert done.returncode == 0, done.stderr
    stores.close()


# -- whose a session is -----------------------------------------------------------------------------------------------


def test_ids_say_whose_they_are() -> None:
    others = [Ids(n).next() for n in (1, whose.ENGINE, whose.HUB, whose.IMPORTS, 2 * whose.IMPORTS - 1)]
    own = whose.own("worker0")
    assert not whose.is_foreign(Ids(0).next(), own)
    assert all(whose.is_foreign(id, own) for id in others)
    assert not whose.is_foreign(others[1], whose.own(f"engine{whose.ENGINE}"))
    assert {whose.own(name) for name in ("hub", "contain", "import-00000000", "worker", "worker12345")} == {""}
    assert MAX_WORKERS < whose.ENGINE < whose.HUB < whose.IMPORTS


FOREIGN = {name: Ids(number).next() for name, number in (("worker1", 1), ("hub", whose.HUB), ("import", whose.IMPORTS + 7))}


@pytest.mark.parametrize("of", FOREIGN)
def test_a_frame_of_anothers_session_is_refused_and_told(stores: Stores, tmp_path: Path, of: str) -> None:
    own = Ids(0).next()
    one = log(stores.place("worker0"), "worker0")
    one.append(flow(own), [opened(), *asked("select 1"), closed()], T)
    one.append(flow(FOREIGN[of]), asked("drop table t"), T)
    stores.take()
    index = Index(stores.index, stores.records)
    (said,) = index.catch_up().bad
    assert FOREIGN[of] in said
    assert [found.id for found in index.sessions(Filter())] == [own]
    assert index.catch_up().bad == (said,)
    index.close()
    keeper = Keeper(tmp_path, Signer(SECRET), checkpoint_s=0)
    (bad,) = keeper.round().bad
    assert f"frame 5 is of session {FOREIGN[of]}, which is another worker's" in bad
    one.seal()
    assert keeper.round().sealed == 1
    keeper.close()
    (path,) = stores.records.iterdir()
    walk = Walk(path)
    with pytest.raises(BadFrame):
        walk.advance()
    assert walk.items == 5
