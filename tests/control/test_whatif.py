"""whatif and pcap beside a hub that runs: sessions come from it, and it seals what is imported."""

import json
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.record.keeper import Keeper
from appliance.service.keys import signer
from tests.control.hub import Hub, running
from tests.control.test_cli import write_config
from tests.foreign.files import pcap, talk
from tests.foreign.test_flows import ALLOW, ASKED
from tests.record.test_whatif import dropped
from tests.record.test_whatif import session as recorded

Captured = pytest.CaptureFixture[str]


def test_whatif_asks_the_hub(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "new.yaml").write_text("rules:\n  - {id: none, do: block}\n")
    with running() as hub:
        hub.kept = {"f1": recorded(*dropped())}  # f2 is gone meanwhile
        words = ["--config", write_config(tmp_path, hub.socket.parent)]
        assert main([*words, "whatif", "--rules", str(tmp_path / "new.yaml"), "--who", "acme*", "--limit", "7", "--json"]) == 0
        asked: Hub = hub
    found = capsys.readouterr()
    report = json.loads(found.out)
    assert asked.filters[-1].who == "acme*" and asked.filters[-1].limit == 7
    assert report["sessions"] == 1 and {c["change"] for c in report["changes"]} == {"newly blocked"}
    assert "f2" in found.err


def test_an_import_beside_a_hub_is_left_for_it_to_seal(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "f.pcap").write_bytes(pcap(talk(*ASKED)))
    (tmp_path / "new.yaml").write_text(ALLOW)
    state = tmp_path / "state"
    (state / "records").mkdir(parents=True)
    keeper = Keeper(state, signer(state), checkpoint_s=0)
    try:
        keeper.round()
        with running() as hub:
            words = ["--config", write_config(tmp_path, hub.socket.parent)]
            assert main([*words, "pcap", str(tmp_path / "f.pcap"), "--rules", str(tmp_path / "new.yaml"), "--import"]) == 0
        assert "1 sessions imported" in capsys.readouterr().out
        assert keeper.round().sealed == 1, "nobody else has"
    finally:
        keeper.close()
