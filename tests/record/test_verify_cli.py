"""`vendorgate verify`, `hold` and `release-hold`, without a hub."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.record.checkpoint import entries, files
from appliance.record.standalone import source
from tests.record.samples import T
from tests.record.store import SECRET, Store

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys/record.key").write_bytes(SECRET)
    (tmp_path / "keys/record.key").chmod(0o600)
    made.session("s1")
    made.session("s2", T + 1)
    made.seal()
    return made


def config(home: Path) -> list[str]:
    path = home / "vendorgate.yaml"
    path.write_text(f"state_dir: {home}\nruntime_dir: {home}/run\n")
    return ["--config", str(path)]


def test_a_whole_record(store: Store, capsys: Captured) -> None:
    assert main([*config(store.home), "verify"]) == 0
    found = capsys.readouterr()
    assert found.out.splitlines() == [
        "whole: 1 checkpoints, 1 segments, 10 frames, 2 sessions, 0 of them by the numbers of the fence",
        f"checked with key {store.keeper.signer.name}",
    ]
    assert "compare it with what you noted" in found.err


def test_a_record_that_is_not_whole(store: Store, capsys: Captured) -> None:
    (path,) = store.records.iterdir()
    path.unlink()
    assert main(["verify", str(store.home)]) == 1
    assert capsys.readouterr().out.startswith(f"{path}: byte 0: the segment is missing\nNOT WHOLE: ")
    assert main(["verify", str(store.home), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] is False
    assert found["faults"] == [{"file": str(path), "offset": 0, "number": None, "what": "the segment is missing"}]


def test_from_and_to(store: Store, capsys: Captured) -> None:
    assert main(["verify", str(store.home), "--json", "--from", "2023-11-15"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == 0
    assert main(["verify", str(store.home), "--json", "--to", "2023-11-15"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == 1


def test_key_and_anchors_from_elsewhere(store: Store, tmp_path: Path, capsys: Captured) -> None:
    key = store.keeper.signer.public.hex()
    assert main(["verify", str(store.home), "--key", key]) == 0
    assert main(["verify", str(store.home), "--key", str(store.home / "proof/key.pub")]) == 0
    assert main(["verify", str(store.home), "--key", "00" * 32]) == 1
    assert main(["verify", str(store.home), "--key", "rubbish"]) == 2
    (line,) = [one.line for path in files(store.home / "proof") for one in entries(path)]
    (tmp_path / "anchors").write_text(f"Nov 21 host vendorgate: {line}\n")
    assert main(["verify", str(store.home), "--anchors", str(tmp_path / "anchors")]) == 0
    (tmp_path / "anchors").write_text(line.replace("checkpoint 1 ", "checkpoint 7 "))
    capsys.readouterr()
    assert main(["verify", str(store.home), "--anchors", str(tmp_path / "anchors")]) == 1
    assert "checkpoint 2 is missing, up to 7" in capsys.readouterr().out


def test_standalone_writes_the_one_file(tmp_path: Path) -> None:
    assert main(["verify", "--standalone", str(tmp_path / "verify.py")]) == 0
    assert (tmp_path / "verify.py").read_text() == source()


def test_where_nothing_is_recorded(tmp_path: Path, capsys: Captured) -> None:
    assert main([*config(tmp_path), "verify"]) == 1
    assert "nothing is recorded here" in capsys.readouterr().err
    assert main([*config(tmp_path), "hold"]) == 1
    assert "nothing is recorded here" in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()


def test_a_record_that_may_not_be_read(store: Store, capsys: Captured) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    for folder in (store.home, *store.home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(main(["verify", str(store.home)]))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_progress_is_shown_on_a_terminal_only(store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.record.audit.program.SHOW_S", -1.0)
    assert main(["verify", str(store.home)]) == 0
    assert "%" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["verify", str(store.home)]) == 0
    assert "  0 %  w0.1700000000000.record" in capsys.readouterr().err


def test_a_hold_and_its_release(store: Store, capsys: Captured) -> None:
    words = config(store.home)
    assert main([*words, "hold"]) == 0
    assert capsys.readouterr().out == "Nothing is held.\n"
    assert main([*words, "hold", "s1", "--identity", "acme", "--reason", "case 1"]) == 0
    assert capsys.readouterr().out == "session   s1\nidentity  acme\n"
    assert main([*words, "hold", "no-such"]) == 1
    assert main([*words, "hold", "s2", "--reason", "x" * 501]) == 2
    assert main([*words, "release-hold", "s2"]) == 1
    assert "is not held" in capsys.readouterr().err
    assert main([*words, "release-hold", "--identity", "bolt"]) == 1
    assert main([*words, "release-hold"]) == 2
    assert main([*words, "release-hold", "s1", "--identity", "acme"]) == 0
    capsys.readouterr()
    assert main([*words, "hold", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sessions": [], "identities": []}
    deeds = [deed for path in files(store.home / "proof") for one in entries(path) for deed in one.entry.deeds]
    assert [(deed.kind, deed.why, deed.ids, deed.identities) for deed in deeds] == [
        ("hold", "case 1", ("s1",), ("acme",)),
        ("release", "", ("s1",), ("acme",)),
    ]
    assert main(["verify", str(store.home)]) == 0


def test_a_copy_verifies_as_the_original(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.home, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    assert main(["verify", str(tmp_path / "copy")]) == 0
