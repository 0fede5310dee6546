"""What a worker that was taken over writes costs its own segment, and nobody else's record, index, proof or export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.record import frame, read
from appliance.record.chain import leaf
from appliance.record.export import FORMATS, Export
from appliance.record.index import Index
from appliance.record.keeper import Keeper
from appliance.record.log import Log
from appliance.record.retention import Keep, prune
from appliance.record.session import Filter
from appliance.record.signing import Signer
from appliance.record.verify import verify
from appliance.service.exports import Exports
from tests.record.samples import T, asked, closed, flow, opened
from tests.record.store import SECRET

DEEP = b"\x91" * 100_000 + b"\xc0"  # an array in an array in an array
Frame = dict[str, Any]


def deep(said: Frame) -> bytes:
    """A frame with one more field, which no reader knows and each steps over."""
    body = msgspec.msgpack.encode(said)
    return bytes([body[0] + 1]) + body[1:] + b"\xa1z" + DEEP


ODD: dict[str, Callable[[Frame], Frame | bytes]] = {
    "nested without end": deep,
    "no number": lambda said: said | {"time": float("nan")},
    "for ever": lambda said: said | {"time": float("inf")},
    "after all time": lambda said: said | {"time": 1e308},
    "before all time": lambda said: said | {"time": -1.0},
    "opened before all time": lambda said: said | {"flow": said["flow"] | {"opened": -(2.0**63)}},
    "opened no number": lambda said: said | {"flow": said["flow"] | {"opened": float("nan")}},
    "bytes without end": lambda said: said | {"dropped": 2**64 - 1},
    "fewer than none": lambda said: said | {"dropped": -1},
    "spent no number": lambda said: said | {"note": said["note"] | {"spent": {"parse": float("nan")}}},
    "an id that is none": lambda said: said | {"id": 5},
}


def written(records: Path, change: Callable[[Frame], Frame | bytes]) -> None:
    """One honest session of worker0, and a frame of another."""
    log = Log(records, "worker0")
    log.append(flow("a"), [opened(), closed()], T)
    log.append(flow("b"), [opened()], T)
    log.seal()
    (path,) = records.iterdir()
    *honest, last = read.items(path)
    said = change(msgspec.msgpack.decode(last.body) | {"previous": leaf(honest[-1].data)})
    body = said if isinstance(said, bytes) else msgspec.msgpack.encode(said)
    path.write_bytes(b"".join(one.data for one in honest) + b"\xc6" + len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize("what", ODD)
def test_it_costs_its_own_segment_alone(tmp_path: Path, what: str) -> None:
    records = tmp_path / "records"
    records.mkdir()
    written(records, ODD[what])
    log = Log(records, "worker1")
    log.append(flow("c"), [opened(), *asked("select 1"), closed()], T)
    log.seal()
    index = Index(tmp_path / "index.sqlite", records)
    (bad,) = index.catch_up().bad
    assert "worker0." in bad
    assert {one.id for one in index.sessions(Filter())} == {"a", "c"}
    keeper = Keeper(tmp_path, Signer(SECRET), checkpoint_s=0)
    done = keeper.round()
    assert (done.sealed, [text for text in done.bad if "worker0." not in text]) == (2, [])
    assert keeper.is_packed(next(path.name for path in records.glob("worker1.*")))
    assert index.catch_up().bad == (bad,)
    exports = Exports(tmp_path, index, Signer(SECRET), lambda deed: None, dict)
    for format in FORMATS:
        assert format == "har" or b"".join(exports.open(Export(format=format), "root"))
    for ids in ((), ("a",), ("c",)):
        assert b"".join(exports.open(Export(ids=ids, bundle=True), "root"))
    prune(keeper, Keep(1.0, 1 << 40), T + 1e6)
    assert list(records.glob("worker1.*")) == []
    assert [Path(fault.file).name for fault in verify(tmp_path).faults if "worker1." in fault.file] == []
    index.close()
    keeper.close()


def test_max_time_bounds_when_something_can_have_been() -> None:
    assert frame.MAX_TIME == 2**33
    assert frame.MAX_TIME * 1_000_000 < 1 << 63
    assert [frame.is_time(when) for when in (0.0, T, 2.0**33, 2.0**33 + 1, -1e-9, float("nan"))] == [True] * 3 + [False] * 3
    assert [frame.is_length(one) for one in (0.0, -5.0, 2.0**33, float("inf"), float("nan"))] == [True] * 3 + [False] * 2
