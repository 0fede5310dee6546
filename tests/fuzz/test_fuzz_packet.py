"""The fuzzing of packets for as long as a test may take: its corpus, cut and changed by hypothesis and atheris."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.fresh import changed, fuzz
from tests.fuzz.packet_input import corpus, listed, run

CORPUS = corpus()
BYTES = st.one_of(st.binary(max_size=6), st.sampled_from([b"\x45\0", b"\x60\0", b"\xff\xff\xff\xff", b"\x10", b"\x02", b"\x11", b"\x2c"]))
CHANGE = st.tuples(st.integers(0, 2000), st.integers(0, 6), BYTES)


def test_corpus() -> None:
    for data in CORPUS:
        run(data)


@given(st.sampled_from(CORPUS), st.lists(CHANGE, min_size=1, max_size=5))
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
def test_changed_corpus(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    run(changed(data, changes))


@given(st.integers(0, 15), st.lists(st.binary(max_size=80), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_bytes(flags: int, packets: list[bytes]) -> None:
    run(listed(flags, packets))


def test_atheris_for_some_seconds(tmp_path: Path) -> None:
    """Coverage-guided, from the corpus; what it finds is the message of a failure."""
    assert fuzz("packet", tmp_path) == ""
