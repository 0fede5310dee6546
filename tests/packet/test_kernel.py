"""What we read is what the kernel's receiver reads: of segments that overlap, wrap, come early and lie.

Inline, only what the tracker lets by reaches the kernel, and what the kernel reads is what was judged, no byte else.
"""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.packet.make import A6, B6, A, B, pieces, pieces6, udp
from tests.packet.receiver import PORT, Say, Scene, Seen
from tests.packet.scenes import SCENES

pytestmark = pytest.mark.kernel
TRIES = 5  # whether two segments that follow each other are joined depends on the memory they lie in


class Receiver:
    def __init__(self) -> None:
        words = ["unshare", "--net", sys.executable, "-m", "tests.packet.receiver"]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)

    def play(self, scene: Scene) -> Seen:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(msgspec.json.encode(scene) + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the receiver is gone; its error is above"
        return msgspec.json.decode(line, type=Seen)

    def agrees(self, scene: Scene) -> Seen:
        """Play it, and find the kernel and the tracker of one mind."""
        for _ in range(1 if scene.raw else TRIES):
            seen = self.play(scene)
            if seen.given == seen.read:
                break
        assert seen.given == seen.read
        return seen


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    assert found.process.stdin and found.process.stdout
    found.process.stdin.close()
    found.process.wait(20)
    found.process.stdout.close()


def ambiguous(says: list[Say]) -> bool:
    """A segment that follows one and lies in another is joined or left out, by the shape of the kernel's tree.

    One that follows an early FIN is joined to it, as if the FIN were a byte that is none.
    """
    ends = [(say.seq, say.seq + len(say.data) + ("F" in say.flags)) for say in says]
    if {stop for say, (_, stop) in zip(says, ends, strict=True) if "F" in say.flags} & {begin for begin, _ in ends}:
        return True
    return any(
        behind == begin and low <= begin < high
        for at, (begin, _) in enumerate(ends)
        for _, behind in ends[:at]
        for low, high in ends[:at]
    )


def lies(flags: str, stamp: int, ack: int, seq: int, data: bytes) -> Say:
    return Say(seq, b"" if "S" in flags else data, flags, 0, stamp, ack)


DATA = st.builds(lambda size, letter: bytes([letter]) * size, st.integers(1, 16), st.integers(65, 90))
SEQ = st.integers(0, 24)
SAYS = st.lists(st.builds(Say, SEQ, DATA), max_size=14)
FLAGS = st.sampled_from(["A"] * 6 + ["", "P", "PA", "FA", "SA", "S", "F"])
STAMPS, ACKS = st.sampled_from([1002, 1003, 1010, 900, 1000, 999]), st.sampled_from([0] * 8 + [1, 5, -1, -(10**5), 10**5])
LIES = st.lists(st.builds(lies, FLAGS, STAMPS, ACKS, SEQ, DATA), max_size=14)
ISN = st.sampled_from([1000, 2**32 - 1, 2**32 - 12, 2**31 - 8])
MANY = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@given(SAYS, ISN, st.booleans())
@MANY
def test_overlapping_segments_of_other_bytes(receiver: Receiver, says: list[Say], isn: int, six: bool) -> None:
    assume(not ambiguous(says))
    receiver.agrees(Scene(says, isn, six=six))


@given(SAYS, ISN)
@MANY
def test_inline_overlapping_segments(receiver: Receiver, says: list[Say], isn: int) -> None:
    receiver.agrees(Scene(says, isn, inline=True))


@given(LIES, ISN, st.booleans())
@MANY
def test_segments_that_lie(receiver: Receiver, says: list[Say], isn: int, stamped: bool) -> None:
    assume(not ambiguous(says))
    receiver.agrees(Scene(says, isn, stamped))


@given(LIES, ISN, st.booleans())
@MANY
def test_inline_segments_that_lie(receiver: Receiver, says: list[Say], isn: int, stamped: bool) -> None:
    receiver.agrees(Scene(says, isn, stamped, inline=True))


@pytest.mark.parametrize("isn", [1000, 2**32 - 3], ids=["", "wraps"])
@pytest.mark.parametrize("name", SCENES)
def test_by_name(receiver: Receiver, name: str, isn: int) -> None:
    says, read, stamped = SCENES[name]
    assert receiver.agrees(Scene(says, isn, stamped)).read == read


@pytest.mark.parametrize("name", SCENES)
def test_inline_by_name(receiver: Receiver, name: str) -> None:
    says, read, stamped = SCENES[name]
    seen = receiver.agrees(Scene(says, stamped=stamped, inline=True))
    assert seen.refused or seen.read == read


IDS = itertools.count(1)  # of datagrams: the kernel remembers those that never became whole
LONG = bytes(range(256)) * 8
CUTS = {
    "in order": [(0, 1024), (1024, 2056)],
    "backwards": [(1024, 2056), (0, 1024)],
    "twice": [(0, 1024), (0, 1024), (1024, 2056)],
    "inside of another": [(0, 1024), (512, 1024), (1024, 2056)],
    "overlapping": [(0, 1024), (512, 2056)],
    "overlapping from before": [(1024, 2056), (0, 1032)],
    "inside of two": [(0, 512), (512, 1024), (256, 768), (1024, 2056)],
    "one is missing": [(0, 512), (1024, 2056)],
    "one is the whole": [(0, 2056)],
    "many": [(at, min(at + 8, 2056)) for at in range(0, 2056, 8)],
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("six", [False, True])
def test_fragments(receiver: Receiver, name: str, six: bool) -> None:
    ends, cut = ((A6, B6), pieces6) if six else ((A, B), pieces)
    seen = receiver.agrees(Scene(raw=cut(udp(*ends, (9, PORT), LONG), CUTS[name], next(IDS))))
    assert (seen.read == LONG) == (name not in ("overlapping", "overlapping from before", "one is missing")), seen.counters


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 13)), min_size=1, max_size=12), st.booleans())
@settings(MANY, max_examples=60)
def test_any_fragments(receiver: Receiver, cuts: list[tuple[int, int]], six: bool) -> None:
    ends, cut = ((A6, B6), pieces6) if six else ((A, B), pieces)
    places = [(low * 8, min(low * 8 + size * 8, 104)) for low, size in cuts]
    receiver.agrees(Scene(raw=cut(udp(*ends, (9, PORT), LONG[:96]), places, next(IDS))))
