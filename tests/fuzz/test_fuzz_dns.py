"""The fuzzing for as long as a test may take: its corpus, cut and changed by hypothesis and atheris."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.dns_input import corpus, run
from tests.fuzz.fresh import changed, fuzz

CORPUS = corpus()
BYTES = st.one_of(st.binary(max_size=6), st.sampled_from([b"\xc0\x0c", b"\0", b"\x3f", b"\0\x41\0\1", b"\0\x29", b"\0\5", b"\xff\xff", b"\x81\x80"]))
CHANGE = st.tuples(st.integers(0, 1000), st.integers(0, 6), BYTES)


def test_corpus() -> None:
    for data in CORPUS:
        run(data)


@given(st.sampled_from(CORPUS), st.lists(CHANGE, min_size=1, max_size=5))
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_changed_corpus(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    run(changed(data, changes))


@given(st.lists(st.tuples(st.integers(0, 31), st.binary(max_size=80)), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_bytes(parts: list[tuple[int, bytes]]) -> None:
    run(b"".join(bytes([flags]) + len(data).to_bytes(2) + data for flags, data in parts))


def test_atheris_for_some_seconds(tmp_path: Path) -> None:
    """Coverage-guided, from the corpus; what it finds is the message of a failure."""
    assert fuzz("dns", tmp_path) == ""
