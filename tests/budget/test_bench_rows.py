"""Rows of the benchmarks: what is kept of one, and that a question asked again replaces its row."""

import json
from pathlib import Path

import pytest

from tests.bench import machine


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "build/bench.json")
    return machine.RESULTS


def test_a_row_has_all_that_a_reader_asks_for(results: Path) -> None:
    costs = {"vendorgate": [{"hub": 10.0, "workers": 40.0}, {"hub": 30.0, "workers": 60.0}]}
    machine.report("one query", "ms", [1.0, 3.0, 2.0], [4.0, 8.0, 6.0], "added 0.10 ms", costs)
    kept = json.loads(results.read_text())
    assert kept["machine"].endswith(("compiled", "plain"))
    assert {"vendorgate", "openssl", "postgres"} <= set(kept["versions"])
    (row,) = kept["rows"]
    assert (row["question"], row["unit"], row["promise"]) == ("one query", "ms", "added 0.10 ms")
    assert row["ways"]["direct"] == {"runs": [1.0, 3.0, 2.0], "median": 2.0, "low": 1.0, "high": 3.0, "ratio": 1.0, "added": 0.0}
    through = row["ways"]["vendorgate"]
    assert (through["median"], through["ratio"], through["added"]) == (6.0, 3.0, 4.0)
    assert through["cpu"] == {"hub": 20.0, "workers": 50.0}


def test_a_question_asked_again_replaces_its_row_and_others_stay(results: Path) -> None:
    for figure in (1.0, 2.0):
        machine.compare("first", "s", {"one": [figure]}, "none stated")
        machine.compare("second", "s", {"one": [figure + 10], "none": [0.0]}, "none stated")
    rows = json.loads(results.read_text())["rows"]
    assert [(row["question"], row["ways"]["one"]["runs"]) for row in rows] == [("first", [2.0]), ("second", [12.0])]
    assert "2.000" in machine.table()


def test_a_way_beside_nothing_has_no_ratio(results: Path) -> None:
    machine.compare("from nothing", "s", {"one": [0.0], "other": [1.0]}, "none stated")
    assert json.loads(results.read_text())["rows"][0]["ways"]["other"]["ratio"] is None
    assert "-" in machine.table()
