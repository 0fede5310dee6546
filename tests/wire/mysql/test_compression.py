"""Compression: the same dialogues in frames, cut anywhere; frames of either side's making; what is no frame."""

import zlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Message, ProtocolError, Side
from appliance.wire.mysql import MySQL, compression
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.compression import Algorithm, pack, unpack
from appliance.wire.mysql.packets import FULL
from tests.wire.mysql.build import (
    MODERN,
    C,
    S,
    blanked,
    column,
    down,
    logged_in,
    ok,
    one,
    p,
    ps,
    query,
    result,
    row,
    up,
)
from tests.wire.mysql.dialogues import SELECTED, dialogues
from tests.wire.mysql.test_dialogues import RUNS

TABLES: dict[Algorithm, dict] = {"zlib": dialogues(caps.COMPRESS), "zstd": dialogues(caps.ZSTD)}
CASES = [(algorithm, name) for algorithm, table in TABLES.items() for name in sorted(table)]


def framed(algorithm: Algorithm, name: str, size: int = FULL) -> list[tuple[Side, bytes, str]]:
    """The dialogue with all after its login in frames of at most `size` bytes of content."""
    out, through = [], False
    for side, data, kinds in TABLES[algorithm][name]:
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        frames = b"".join(pack(piece, i + (side is S), algorithm) for i, piece in enumerate(pieces))
        out.append((side, frames if through else data, kinds))
        through = through or kinds.split()[-1] == "complete"
    return out


def play(steps: Sequence[tuple[Side, bytes]], algorithm: Algorithm) -> list[tuple[Side, str, bytes]]:
    """Feed the steps, allow everything; return sides, kinds and contents, runs joined."""
    wire, out, through = MySQL(), [], False
    for side, data in steps:
        for message in wire.feed(side, data):
            raw = unpack(message.raw, algorithm) if through else message.raw
            if side is C:
                (send,) = wire.allow(message)
                assert blanked(unpack(send.data, algorithm) if through else send.data) == blanked(raw)
            if out and out[-1][:2] == (side, message.kind) and message.kind in RUNS:
                raw = out.pop()[2] + raw
            out.append((side, message.kind, raw))
            through = through or message.kind == "complete"
    return out


@pytest.mark.parametrize(("algorithm", "name"), CASES)
def test_the_same_dialogue_in_frames(algorithm: Algorithm, name: str) -> None:
    steps = framed(algorithm, name)
    said = play([(side, data) for side, data, _ in steps], algorithm)
    assert [kind for _, kind, _ in said] == [kind for _, _, kinds in steps for kind in kinds.split()]
    for one_side in (C, S):
        plain = b"".join(data for side, data, _ in TABLES[algorithm][name] if side is one_side)
        assert b"".join(raw for side, _, raw in said if side is one_side) == blanked(plain)


@given(st.sampled_from(CASES), st.integers(1, 40), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=150, deadline=None)
def test_frames_and_cuts_anywhere_change_nothing(case: tuple[Algorithm, str], size: int, places: list[int]) -> None:
    algorithm, name = case
    whole = play([(side, data) for side, data, _ in framed(algorithm, name)], algorithm)
    pieces = []
    for side, data, _ in framed(algorithm, name, size):
        marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        pieces += [(side, data[a:b]) for a, b in pairwise(marks)]
    assert play(pieces, algorithm) == whole


def compressed(algorithm: Algorithm = "zlib") -> MySQL:
    return logged_in(MODERN | (caps.COMPRESS if algorithm == "zlib" else caps.ZSTD))


@pytest.mark.parametrize("algorithm", ["zlib", "zstd"])
def test_a_long_statement_and_a_long_row(algorithm: Algorithm) -> None:
    wire = compressed(algorithm)
    text = "select '" + "x" * 100_000 + "'"
    data = pack(query(text), 0, algorithm)
    assert len(data) < 1000
    assert up(wire, data) == data, "frames that hold just one message go up as they came"
    answer = down(wire, pack(result([column("n")], [row("y" * 100_000)]), 1, algorithm))
    assert unpack(answer, algorithm) == result([column("n")], [row("y" * 100_000)])
    assert len(answer) < 2000, "what goes down is compressed"


def test_two_commands_in_one_frame_are_judged_one_by_one() -> None:
    wire = compressed()
    first, second = wire.feed(C, pack(query("select 1") + query("drop table t"), 0, "zlib"))
    assert (unpack(first.raw, "zlib"), unpack(second.raw, "zlib")) == (query("select 1"), query("drop table t"))
    (send,) = wire.allow(first)
    assert send.data[3] == 0
    assert wire.deny(second, "denied", "no") == []
    said = list(wire.feed(S, pack(SELECTED, 1, "zlib")))
    assert [message.kind for message in said] == ["describe", "row", "complete", "error"]
    assert said[-1].raw[3] == 1


def test_frames_down_are_numbered_on_from_the_clients() -> None:
    wire = compressed()
    text = query("x" * 400)
    data = b"".join(pack(text[i : i + 100], i // 100, "zlib") for i in range(0, len(text), 100))
    assert up(wire, data) == data
    answer = b"".join(pack(packet, 5 + i, "zlib") for i, packet in enumerate(result_packets()))
    frames = numbers(down(wire, answer))
    assert frames == list(range(5, 5 + len(frames)))


def result_packets() -> list[bytes]:
    return [ps(b"\1"), p(column("n"), 2), p(row("1"), 3), p(ok(header=0xFE), 4)]


def numbers(raw: bytes) -> list[int]:
    found, at = [], 0
    while at < len(raw):
        found.append(raw[at + 3])
        at += 7 + int.from_bytes(raw[at : at + 3], "little")
    return found


def test_masked_rows_are_compressed_again() -> None:
    wire = compressed()
    message = one(wire, pack(query("x"), 0, "zlib"))
    wire.allow(message, lambda columns: [lambda text: "#" * len(text)])
    answer = unpack(down(wire, pack(result([column("n")], [row("s3cret" * 100)]), 1, "zlib")), "zlib")
    assert answer == result([column("n")], [row("#" * 600)])


def test_a_file_in_frames_keeps_its_numbers() -> None:
    wire = compressed()
    up(wire, pack(query("load data local infile 'a' into table t"), 0, "zlib"))
    assert numbers(down(wire, pack(p(b"\xfba", 1), 1, "zlib"))) == [1]
    assert numbers(up(wire, pack(p(b"1\n", 2), 2, "zlib") + pack(p(b"2\n", 3), 3, "zlib"))) == [2, 3]
    assert numbers(up(wire, pack(p(b"", 4), 4, "zlib"))) == [4]
    assert numbers(down(wire, pack(p(ok(2), 5), 5, "zlib"))) == [5]
    assert wire.idle


def test_a_refused_upload_in_frames() -> None:
    wire = compressed()
    up(wire, pack(query("load data local infile 'a' into table t"), 0, "zlib"))
    down(wire, pack(p(b"\xfba", 1), 1, "zlib"))
    (send,) = wire.deny(one(wire, pack(p(b"1\n", 2), 2, "zlib")), "denied", "no")
    assert (send.to, unpack(send.data, "zlib"), numbers(send.data)) == (S, p(b"", 2), [2])
    assert up(wire, pack(p(b"", 3), 3, "zlib")) == b""
    answer = down(wire, pack(p(ok(0), 3), 3, "zlib"))
    assert (unpack(answer, "zlib")[4:7], numbers(answer)) == (b"\xff\x76\x04", [4])
    assert wire.idle


def test_injected_and_last_words_in_frames() -> None:
    wire = compressed()
    (send,) = wire.inject("select 1")
    assert unpack(send.data, "zlib") == query("select 1")
    assert [m.kind for m in wire.feed(S, pack(SELECTED, 1, "zlib"))] == ["injected", "injected-done"]
    assert unpack(wire.refuse("over"), "zlib")[4:7] == b"\xff\x76\x04"


def frame(body: bytes) -> bytes:
    """A frame that says it holds 99 bytes."""
    return len(body).to_bytes(3, "little") + b"\0\x63\0\0" + body


BAD = {
    "not zlib": b"\5\0\0\0\xff\0\0hello",
    "another size": frame(zlib.compress(b"x" * 98)),
    "more than it says": frame(zlib.compress(b"x" * 10_000)),
    "something behind": frame(zlib.compress(b"x" * 99) + b"!"),
    "cut off": frame(zlib.compress(b"x" * 99)[:-2]),
    "nothing": b"\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("side", [C, S])
def test_frames_that_cannot_be_read(name: str, side: Side) -> None:
    wire = compressed()
    with pytest.raises(ProtocolError, match="compressed frame"):
        list(wire.feed(side, BAD[name]))


def test_zstd_that_lies_about_its_size() -> None:
    wire = compressed("zstd")
    data = zstandard.ZstdCompressor().compress(b"x" * 100_000_000)
    with pytest.raises(ProtocolError, match="compressed frame"):
        list(wire.feed(S, len(data).to_bytes(3, "little") + b"\1\xff\xff\xff" + data))
    chunked = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100_000)
    with pytest.raises(ProtocolError, match="compressed frame"):
        list(compressed("zstd").feed(C, len(chunked).to_bytes(3, "little") + b"\0\x63\0\0" + chunked))


def test_kinds_of_messages_do_not_hold_what_frames_hold() -> None:
    """16 MiB of one letter in a frame of 16 KiB: it is taken apart only when its turn comes."""
    wire = compressed()
    up(wire, pack(query("x"), 0, "zlib"))
    down(wire, pack(ps(b"\1", column("n")), 1, "zlib"))
    frames = pack(p(row("y" * 1_000_000), 3) * 12, 2, "zlib")
    said: list[Message] = list(wire.feed(S, frames))
    assert sum(message.count for message in said if message.kind == "row") == 12
    assert sum(len(message.raw) for message in said) < 200_000


def test_max_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a byte each they would take a hundred times what is in them."""
    monkeypatch.setattr(compression, "MAX_FRAMES", 10)
    wire = logged_in(MODERN | caps.COMPRESS)
    data = query("select 1")
    pieces = [pack(data[i : i + 2], i // 2, "zlib") for i in range(0, len(data), 2)]
    assert [message.text for message in wire.feed(C, b"".join(pieces) * 5)] == ["select 1"] * 5
    with pytest.raises(ProtocolError, match="more than 10 frames"):
        list(wire.feed(C, b"".join(pack(data[i : i + 1], i, "zlib") for i in range(len(data)))))
