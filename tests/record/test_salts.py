"""Salts are drawn for many frames at once; none is used twice."""

from pathlib import Path

from appliance.record.log import SALT_BYTES, SALTS, Log
from appliance.record.read import read
from tests.record.samples import flow, opened


def test_salts_are_all_different_beyond_those_drawn_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    for _ in range(SALTS):
        log.append(flow("f1"), [opened(), opened(), opened()], 1.0)
    salts = [frame.salt for frame in read(tmp_path)]
    assert len(salts) == 3 * SALTS
    assert len(set(salts)) == len(salts)
    assert all(len(salt) == SALT_BYTES for salt in salts)
