"""The fuzzing for as long as a test may take: its corpus, cut and changed by hypothesis and atheris."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.capture_input import corpus, run
from tests.fuzz.fresh import changed, fuzz

CORPUS = corpus()
CHANGE = st.tuples(st.integers(0, 4000), st.integers(0, 6), st.binary(max_size=6))


def test_corpus() -> None:
    found = [run(data) for data in CORPUS]
    assert all(len(one) == 1 for one in found)
    assert [one[0].judged[0].verdict for one in found if one[0].judged].count("allow") >= 4


@given(st.sampled_from(CORPUS), st.lists(CHANGE, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_changed_corpus(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    run(changed(data, changes))


def test_atheris_for_some_seconds(tmp_path: Path) -> None:
    """Coverage-guided, from the corpus; what it finds is the message of a failure."""
    assert fuzz("capture", tmp_path) == ""
