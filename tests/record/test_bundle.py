"""A bundle has all of its sessions, says of every file in it whether it is as it was, and needs little memory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import ConfigError, HostError, Note
from appliance.record import bundle
from appliance.record.checkpoint import Deed, entries, files
from appliance.record.export import Export
from appliance.record.index import Index
from appliance.record.session import Filter
from appliance.record.signing import Signer
from appliance.record.verify import Wanted, verify
from appliance.service import exports, rulebook
from appliance.service.exports import Exports
from tests.record import dialogue as d
from tests.record.samples import NO_DROP, S, T, asked, closed, flow, opened, write
from tests.record.store import SECRET, Store
from tests.record.test_cast import validate

EMAIL = "ada@example.org"
TRAIL = [
    {"at": T, "kind": "asked", "id": "a-1", "flow": "a", "by": "", "reason": ""},
    {"at": T, "kind": "approved", "id": "a-1", "flow": "a", "by": "eve", "reason": f"fine, says {EMAIL}"},
    {"at": T, "kind": "approved", "id": "b-1", "flow": "b", "by": "eve", "reason": "not of a"},
]


class Place:
    """A state directory with three sessions, and what exports them."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.home = home
        for number, id in enumerate("abc"):
            of = flow(id, T + number, port=40001 + number)
            notes = [opened(), *asked(f"select '{EMAIL}'", id=f"{id}-1"), *asked(f"drop table of_{id}", NO_DROP, f"{id}-2")]
            self.store.write(of, [*notes, Note("message", "42501", S, "error", b"E\0\0\0\4"), closed()], T + number)
        (home / "approvals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in TRAIL[1:]) + '{"at": 1')
        (home / "asked.jsonl").write_text(json.dumps(TRAIL[0]) + "\n")
        rules = (("rules.d/10.yaml", "default: block\n"),)
        rulebook.keep(home / rulebook.KEPT, "r1", rulebook.Files(rules, ()))
        self.store.seal()
        self.index = Index(home / "index.sqlite", home / "records")
        self.index.catch_up()
        self.deeds: list[Deed] = []

    def note(self, deed: Deed) -> None:
        self.deeds.append(deed)
        self.store.keeper.note(deed)

    def export(self, *ids: str, by: str = "dana (uid 1000)", **of: object) -> bytes:
        made = Exports(self.home, self.index, Signer(SECRET), self.note, dict)
        return b"".join(made.open(Export(ids, **of), by))  # type: ignore[arg-type]

    def unpacked(self, to: Path, *ids: str, **of: object) -> Path:
        to.mkdir()
        subprocess.run(["tar", "-xf", "-", "-C", to], input=self.export(*ids, bundle=True, **of), check=True)
        (root,) = to.iterdir()
        return root

    def close(self) -> None:
        self.index.close()
        self.store.keeper.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "state").mkdir()
    made = Place(tmp_path / "state")
    yield made
    made.close()


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_is_in_a_bundle(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "a", "c", reason="case 7")
    found = names(root)
    assert {
        "README.txt", "manifest.json", "manifest.sig", "sessions.json", "sessions.pcapng", "sessions.jsonl", "sessions.har",
        "casts/a.cast", "casts/c.cast", "approvals.jsonl", "rules/r1/10.yaml", "verify.py", "proof/key.pub", "proof/excerpt",
    } <= found  # fmt: skip
    assert any(name.startswith("records/") for name in found)
    assert [one["id"] for one in json.loads((root / "sessions.json").read_text())] == ["a", "c"]
    lines = [json.loads(line) for line in (root / "sessions.jsonl").read_text().splitlines()]
    assert [line["session"] for line in lines] == ["a"] * 7 + ["c"] * 7
    assert (root / "sessions.pcapng").read_bytes()[:4] == b"\n\r\r\n"
    header, events = validate((root / "casts/c.cast").read_bytes())
    assert "c" in header["title"] and ("m", "block no-drop") in [(code, text) for _, code, text in events]
    said = [json.loads(line) for line in (root / "approvals.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in said] == ["approved", "asked"] and {one["flow"] for one in said} == {"a"}
    assert (root / "rules/r1/10.yaml").read_text() == "default: block\n"
    manifest = msgspec.json.decode((root / "manifest.json").read_bytes(), type=bundle.Manifest)
    assert {one.name for one in manifest.files} == found - {"manifest.json", "manifest.sig"}
    assert (manifest.about.by, manifest.about.ids) == ("dana (uid 1000)", ("a", "c"))
    assert "proof" in (root / "README.txt").read_text()
    sealed = b"".join(path.read_bytes() for path in (root / "records").iterdir())
    assert b"of_a" in sealed and b"of_c" in sealed and b"of_b" not in sealed, "of other sessions only hashes"


def test_verify_finds_it_whole_here_and_elsewhere(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "b")
    report = verify(root)
    assert report.whole, report.faults
    assert report.sessions == 1 and report.key == Signer(SECRET).name
    done = subprocess.run([sys.executable, "-I", root / "verify.py", root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "whole" in done.stdout and Signer(SECRET).name in done.stdout
    other = Signer(bytes(32)).public
    assert verify(root, Wanted(key=other)).faults[0].what == "the manifest is not signed by this key"


FAULTS = {
    "flip": ("the file is not what the manifest says", lambda path: path.write_bytes(flipped(path.read_bytes(), 0))),
    "cut": ("bytes, and the manifest says", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "drop": ("the file is missing", lambda path: path.unlink()),
}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("how", FAULTS)
def test_verify_names_any_file_that_is_not_as_it_was(place: Place, tmp_path: Path, how: str) -> None:
    what, break_it = FAULTS[how]
    root = place.unpacked(tmp_path / "out", "a")
    whole = {name: (root / name).read_bytes() for name in names(root)}
    for name, data in whole.items():
        if name in ("manifest.json", "manifest.sig", "proof/key.pub") or (how == "cut" and not data):
            continue
        break_it(root / name)
        first = verify(root).faults[0]
        assert first.file == str(root / name) and what in first.what, (name, first)
        (root / name).write_bytes(data)
    assert verify(root).whole


def test_verify_sees_a_file_more(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "a")
    (root / "casts/z.cast").write_text("x")
    assert [fault.what for fault in verify(root).faults] == ["the manifest does not list this file"]


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_the_manifest_or_its_signature_can_change(bundle_root: Path, data: st.DataObject) -> None:
    path = bundle_root / data.draw(st.sampled_from(["manifest.json", "manifest.sig", "proof/key.pub"]))
    before = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(before) - 1)), data.draw(st.integers(0, 7))
    after = before[:at] + bytes([before[at] ^ 1 << bit]) + before[at + 1 :]
    if path.name == "key.pub" and after.lower().strip() == before.strip():
        return  # hex in capitals is the same key
    path.write_bytes(after)
    try:
        assert not verify(bundle_root).whole
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bundle")
    (home / "state").mkdir()
    made = Place(home / "state")
    root = made.unpacked(home / "out", "a")
    made.close()
    assert verify(root).whole
    return root


def elsewhere(root: Path) -> None:
    """The segments are behind a link, and beside them one of now that nobody sealed."""
    (root / "records").rename(root.parent / "elsewhere")
    (root / "records").symlink_to(root.parent / "elsewhere")
    write(root.parent / "elsewhere", flow("forged", time.time()), [opened(), *asked("drop table x"), closed()], time.time())


def piped(root: Path) -> None:
    (root / "sessions.json").unlink()
    os.mkfifo(root / "sessions.json")


def cached(root: Path) -> None:
    (root / "records/__pycache__").mkdir()
    (root / "records/__pycache__/x").touch()


ADDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to a directory": (elsewhere, "records: byte 0: the manifest does not list this file"),
    "a link to nothing": (lambda root: (root / "x").symlink_to("nothing"), "x: byte 0: the manifest does not list this file"),
    "a link in place of a file": (
        lambda root: (root / "README.txt").rename(root.parent / "r") and (root / "README.txt").symlink_to("../r"),
        "README.txt: byte 0: it is no file",
    ),
    "a pipe in place of a file": (piped, "sessions.json: byte 0: it is no file"),
    "a manifest elsewhere": (lambda root: (root / "rules/manifest.json").touch(), "rules/manifest.json: byte 0: the manifest"),
    "what looks like a cache": (cached, "records/__pycache__/x: byte 0: the manifest does not list this file"),
}


@pytest.mark.parametrize("what", ADDED)
def test_nothing_is_beside_what_the_manifest_lists(place: Place, tmp_path: Path, what: str) -> None:
    """A segment that nobody sealed passed as one of just now, where a link hid it from the list."""
    root = place.unpacked(tmp_path / "out", "a")
    add, says = ADDED[what]
    add(root)
    report = verify(root, Wanted(key=Signer(SECRET).public))
    assert [text for text in map(str, report.faults) if says in text], report.faults


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "proof/key.pub"])
def test_a_pipe_does_not_keep_the_verifier_waiting(place: Place, tmp_path: Path, name: str) -> None:
    root = place.unpacked(tmp_path / "out", "a")
    (root / name).unlink()
    os.mkfifo(root / name)
    assert "it is no file" in str([fault.what for fault in verify(root).faults])


def test_names_in_a_manifest_lead_nowhere_else(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "a")
    found = json.loads((root / "manifest.json").read_bytes())
    found["files"][0]["name"] = "../../etc/passwd"
    data = json.dumps(found).encode()
    (root / "manifest.json").write_bytes(data)
    from hashlib import sha256

    signed = Signer(SECRET).sign(bundle.CONTEXT, bundle.Vouched(sha256(data).digest()))
    (root / "manifest.sig").write_bytes(msgspec.msgpack.encode(signed))
    assert "no name for a file in an export" in [fault.what for fault in verify(root).faults]


def test_a_signature_of_something_else_is_none(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "a")
    from hashlib import sha256

    digest = sha256((root / "manifest.json").read_bytes()).digest()
    signed = Signer(SECRET).sign(b"vendorgate checkpoint 1\0", bundle.Vouched(digest))
    (root / "manifest.sig").write_bytes(msgspec.msgpack.encode(signed))
    assert verify(root).faults[0].what == "the manifest is not signed by this key"


def test_a_redacted_bundle_has_no_proof_and_is_signed_all_the_same(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", "a", "b", redact=("detector:email",))
    found = names(root)
    assert "proof/key.pub" in found and not [name for name in found if name.startswith("records/") or name == "verify.py"]
    for path in root.rglob("*"):
        assert not path.is_file() or EMAIL.encode() not in path.read_bytes(), path
    assert "redacted: detector:email" in (root / "README.txt").read_text()
    report = verify(root)
    assert report.whole, report.faults
    assert "redacted" in report.notes[0] and report.key == Signer(SECRET).name
    (root / "sessions.jsonl").write_bytes(b"{}\n")
    assert not verify(root).whole


def test_a_redacted_bundle_does_not_say_what_it_was_found_by(place: Place, tmp_path: Path) -> None:
    root = place.unpacked(tmp_path / "out", redact=("detector:email",), wanted=Filter(statement=f"*{EMAIL}*", limit=0))
    assert EMAIL.encode() not in b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_an_export_of_sessions_by_what_they_are_found_by(place: Place) -> None:
    data = place.export(format="jsonl", wanted=Filter(until=T + 1, limit=0))
    assert {json.loads(line)["session"] for line in data.splitlines()} == {"a", "b"}
    assert place.deeds[-1].text == "jsonl of 2 sessions; found by --until 2023-11-14T22:13:21Z"
    assert place.deeds[-1].ids == ("a", "b")


def test_an_export_of_no_session_is_nothing(place: Place) -> None:
    assert place.export(wanted=Filter(who="nobody", limit=0)) == place.export(wanted=Filter(who="nobody"), bundle=True) == b""
    assert place.deeds == []


# -- on record --------------------------------------------------------------------------------------------------


def test_who_exported_what_is_among_the_checkpoints(place: Place) -> None:
    place.export("a", "b", format="asciicast", redact=("detector:email",), reason="case 7")
    found = [deed for path in files(place.home / "proof") for one in entries(path) for deed in one.entry.deeds]
    (deed,) = [deed for deed in found if deed.kind == "export"]
    assert deed == Deed("export", "dana (uid 1000)", "case 7", ("a", "b"), (), "asciicast of 2 sessions; without detector:email")
    assert verify(place.home).whole


def test_an_export_that_cannot_be_put_on_record_is_none(place: Place) -> None:
    def full(_: Deed) -> None:
        raise OSError(28, "No space left on device")

    made = Exports(place.home, place.index, Signer(SECRET), full, dict)
    with pytest.raises(HostError, match=r"cannot be put on record: .*No space left"):
        made.open(Export(("a",)), "dana")


def test_max_told_bounds_the_sessions_named_in_the_record(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exports.MAX_TOLD == 1_000
    monkeypatch.setattr(exports, "MAX_TOLD", 2)
    place.export("a", "b", "c")
    assert place.deeds[-1].ids == ("a", "b")
    assert "pcapng of 3 sessions, the first 2 named, SHA-256 of all ids" in place.deeds[-1].text


def test_what_cannot_be_exported_is_said_before_anything_is_done(place: Place) -> None:
    for of, what in (
        ({"format": "pdf"}, "not known"),
        ({"redact": ("detector:nonsense",)}, "`nonsense` is no detector"),
        ({"redact": ("ssn",)}, "is no column and no detector"),
        ({"redact": ("column:a.b.c.d",)}, "--redact:1: .*a.b.c.d"),
        ({"reason": "x" * 501}, "longer than 500"),
    ):
        with pytest.raises(ConfigError, match=what):
            place.export("a", **of)
    with pytest.raises(KeyError):
        place.export("a", "nobody")
    assert exports.MAX_REASON == 500
    assert place.deeds == []


def test_max_casts_bounds_the_recordings_of_a_bundle(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.MAX_CASTS == 1_000
    monkeypatch.setattr(bundle, "MAX_CASTS", 2)
    root = place.unpacked(tmp_path / "out", "a", "b", "c")
    assert len(list((root / "casts").iterdir())) == 2


def test_rules_are_kept_once_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rulebook.keep(tmp_path / "rules", "r1", rulebook.Files((("rules.d/10.yaml", "a"), ("rules.d/20.yaml", "b")), ()))
    rulebook.keep(tmp_path / "rules", "r1", rulebook.Files((("rules.d/10.yaml", "other"),), ()))
    assert {p.name: p.read_text() for p in (tmp_path / "rules/r1").iterdir()} == {"10.yaml": "a", "20.yaml": "b"}
    assert (tmp_path / "rules/r1/10.yaml").stat().st_mode & 0o777 == 0o600
    assert rulebook.MAX_REVISIONS == 1000
    monkeypatch.setattr(rulebook, "MAX_REVISIONS", 2)
    os.utime(tmp_path / "rules/r1", (1, 1))
    for number in (2, 3):
        rulebook.keep(tmp_path / "rules", f"r{number}", rulebook.Files((("rules.d/1.yaml", "x"),), ()))
    assert {p.name for p in (tmp_path / "rules").iterdir()} == {"r2", "r3"}


# -- memory -----------------------------------------------------------------------------------------------------

GROWTH = 24 << 20  # bytes of memory that an export of BIG may take beyond one of nothing; BIG is many times that
BIG = 96 << 20
ROW = 1 << 18

MEASURE = """
import os, resource, sys
from pathlib import Path
from appliance.record.export import Export
from appliance.record.index import Index
from appliance.record.session import Filter
from appliance.record.signing import Signer
from appliance.service.exports import Exports
home, form, bundle, redact = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", tuple(filter(None, sys.argv[4:]))
index = Index(home / "index.sqlite", home / "records")
made = Exports(home, index, Signer(bytes(range(32))), lambda deed: None, dict)
def export(wanted):
    asked = Export(wanted=wanted, format=form, bundle=bundle, redact=redact)
    return sum(len(piece) for piece in made.open(asked, "x"))
export(Filter(who="nobody", limit=0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = export(Filter(limit=0))
print(size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("big")
    store = Store(home, segment_bytes=8 << 20)
    rows = b"".join(d.row(f"{number:06d}" * 40) for number in range(ROW // 250))
    last = rows + d.complete("SELECT 2096") + d.READY
    for number in range(BIG // (len(rows) * 2)):
        of = flow(f"s{number:04d}", T + number, port=10_000 + number)
        answers = [d.server("row", d.columns("name") + rows, count=1048), d.server("ready", last, "SELECT 2096", 1048)]
        notes = [opened(), *d.LOGIN, *asked("select name from t"), *answers, closed()]
        store.write(of, notes, T + number)
    store.seal()
    store.keeper.close()
    index = Index(home / "index.sqlite", home / "records")
    index.catch_up()
    index.close()
    return home


@pytest.mark.parametrize(
    ("form", "whole", "redact"),
    [("pcapng", "0", ""), ("jsonl", "0", ""), ("asciicast", "0", ""), ("pcapng", "0", "detector:email"), ("", "1", "")],
)
def test_growth_bounds_the_memory_of_an_export(big: Path, form: str, whole: str, redact: str) -> None:
    words = [sys.executable, "-c", MEASURE, str(big), form, whole, redact]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parent.parent.parent)
    assert done.returncode == 0, done.stderr
    size, grown = map(int, done.stdout.split())
    assert form == "asciicast" or size > BIG * 0.9
    assert grown < GROWTH < BIG / 3, f"{size:,} bytes took {grown:,} of memory"
