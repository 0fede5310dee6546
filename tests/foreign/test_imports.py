"""What an import leaves in the record: who did it, of which file, sealed by whoever seals."""

import os
from pathlib import Path

import msgspec
import pytest

from appliance import config
from appliance.cli import main
from appliance.cli import pcap as command
from appliance.model import Address, Flow, HostError, Note, Side
from appliance.record.checkpoint import Entry, entries, files
from appliance.record.frame import segments
from appliance.record.index import Index
from appliance.record.keeper import Keeper
from appliance.record.session import Filter
from appliance.record.verify import verify
from appliance.service.foreign import imports as module
from appliance.service.foreign.flows import Flows
from appliance.service.foreign.imports import MAX_NAME, MAX_TOLD, Imports, source
from appliance.service.keys import signer
from tests.foreign.files import pcap, talk
from tests.foreign.test_flows import ALLOW, ASKED, caught
from tests.record.samples import T
from tests.record.test_verify_cli import config as settings

C, S = Side.CLIENT, Side.SERVER


def imported(home: Path, *, sealed: bool = True, name: str = "f.pcap sha256:00") -> Imports:
    imports = Imports(home, signer(home))
    flows = Flows(config.rules([("r.yaml", ALLOW)], lambda name: [name]), name, imports.next_id, imports)
    for frame in caught(talk(*ASKED, time=T)):
        flows.give(frame)
    flows.end()
    imports.end("dana", "case 1", name, sealed)
    return imports


def deeds(home: Path) -> list[Entry]:
    return [written.entry for path in files(home / "proof") for written in entries(path) if written.entry.deeds]


def test_who_imported_what_is_a_signed_entry(tmp_path: Path) -> None:
    done = imported(tmp_path)
    (entry,) = deeds(tmp_path)
    (deed,) = entry.deeds
    assert (deed.kind, deed.by, deed.why, deed.ids) == ("import", "dana", "case 1", tuple(done.sessions))
    assert deed.text == "import of 1 sessions from f.pcap sha256:00"
    assert verify(tmp_path).whole


def test_beside_a_hub_the_hub_seals(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    keeper = Keeper(tmp_path, signer(tmp_path), checkpoint_s=0)
    try:
        keeper.round()
        imported(tmp_path, sealed=False)
        assert keeper.round().sealed == 1
    finally:
        keeper.close()
    assert verify(tmp_path).whole and len(deeds(tmp_path)) == 1


def test_two_imports_of_one_file_are_two_sessions(tmp_path: Path) -> None:
    first, second = imported(tmp_path), imported(tmp_path)
    assert first.sessions != second.sessions
    index = Index(tmp_path / "index.sqlite", tmp_path / "records")
    index.catch_up()
    found = index.sessions(Filter())
    index.close()
    assert len(found) == 2 and {one.source for one in found} == {"f.pcap sha256:00"}
    assert {one.started for one in found} == {T}, "times are those of the capture"
    assert verify(tmp_path).whole


def test_segments_are_the_owners_alone(tmp_path: Path) -> None:
    imported(tmp_path)
    for one in segments(tmp_path / "records"):
        assert Path(one.path).stat().st_mode & 0o077 == 0 and one.worker.startswith("import-")


def test_of_many_sessions_some_are_named_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOLD", 2)
    imports = Imports(tmp_path, signer(tmp_path))
    for number in range(5):
        flow = Flow(f"f{number}", T, Address("10.0.0.5", 1), Address("10.0.0.2", 2), None, source="f")
        imports.append(flow, [Note("opened"), Note("closed")], T, 1)
    imports.end("dana", "", "f", sealed=True)
    (entry,) = deeds(tmp_path)
    assert entry.deeds[0].ids == ("f0", "f1") and "5 sessions" in entry.deeds[0].text and MAX_TOLD == 1_000


def test_the_name_of_the_file_is_cut(tmp_path: Path) -> None:
    assert source(tmp_path / ("x" * 250), "ab") == f"{'x' * MAX_NAME} sha256:ab"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("no directory")
    with pytest.raises(HostError):
        Imports(tmp_path, signer(tmp_path))


def test_a_file_that_changes_meanwhile_is_no_file_of_these_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = tmp_path / "f.pcap", tmp_path / "state"
    home.mkdir()
    file.write_bytes(pcap(talk(*ASKED)))
    (tmp_path / "rules.yaml").write_text(ALLOW)
    taken = command._store

    def changed(*given: object) -> object:
        found = taken(*given)  # type: ignore[arg-type]
        with file.open("ab") as more:
            more.write(b"more")
        return found

    monkeypatch.setattr(command, "_store", changed)
    words = [*settings(home), "pcap", str(file), "--rules", str(tmp_path / "rules.yaml"), "--import"]
    assert main(words) == 3
    assert "changed while it was read" in capsys.readouterr().err
    (entry,) = deeds(home)
    assert "they are of no file" in entry.deeds[0].text


def test_a_fifo_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "f.pcap")
    (tmp_path / "rules.yaml").write_text(ALLOW)
    assert main([*settings(tmp_path), "pcap", str(tmp_path / "f.pcap"), "--rules", str(tmp_path / "rules.yaml")]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_a_long_reason_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text(ALLOW)
    words = [*settings(tmp_path), "pcap", "x", "--rules", str(tmp_path / "rules.yaml"), "--reason", "x" * (command.MAX_REASON + 1)]
    assert main(words) == 2
    assert f"longer than {command.MAX_REASON}" in capsys.readouterr().err


def test_a_json_document_has_so_many_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MAX_LISTED", 2)
    packets = [packet for n in range(5) for packet in talk(*ASKED, client=Address("10.0.0.5", 1000 + n))]
    (tmp_path / "f.pcap").write_bytes(pcap(packets))
    (tmp_path / "rules.yaml").write_text(ALLOW)
    assert main([*settings(tmp_path), "pcap", str(tmp_path / "f.pcap"), "--rules", str(tmp_path / "rules.yaml"), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert len(found["sessions"]) == 2 and found["more"] == 3


def test_a_file_that_goes_bad_is_read_as_far_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.pcap").write_bytes(pcap(talk(*ASKED)) + b"\xff" * 16)
    (tmp_path / "rules.yaml").write_text(ALLOW)
    assert main([*settings(tmp_path), "pcap", str(tmp_path / "f.pcap"), "--rules", str(tmp_path / "rules.yaml")]) == 0
    said = capsys.readouterr()
    assert "FLUSHALL" in said.out and "a packet of 4294967295 bytes" in said.err
