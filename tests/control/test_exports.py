"""Exports and searches as they are asked for: on the command line, over the socket, and without a hub."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from appliance.cli import main
from appliance.cli.hub import MAX_QUERY
from appliance.model import Note
from appliance.record.checkpoint import entries, files
from appliance.record.export import Export
from appliance.record.session import Filter
from appliance.record.verify import verify
from tests.control.hub import Hub, ask, open_connection, running
from tests.control.test_cli import Captured, refused, said, write_config
from tests.record.samples import NO_DROP, C, T, asked, closed, flow, opened
from tests.record.store import SECRET, Store


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        yield hub


@pytest.fixture
def up(hub: Hub, tmp_path: Path) -> list[str]:
    return ["--config", write_config(tmp_path, hub.socket.parent)]


def test_all_of_a_search_goes_to_the_hub(hub: Hub, up: list[str], capsys: Captured) -> None:
    given = {
        "who": "acme*", "exe": "psql", "to": "orders-db", "table": "users", "statement": "drop *", "text": '"a b" c*',
        "verdict": "block", "rule": "no-drop", "by": "eve", "package": "p", "sha256": "ab",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    said(capsys, [*up, "sessions", *words, "--since", "2026-11-21", "--until", "2026-11-22", "--limit", "7"])
    assert hub.filters == [Filter(**given, since=1795219200.0, until=1795305600.0, limit=7)]  # type: ignore[arg-type]


def test_all_of_an_export_goes_to_the_hub(hub: Hub, up: list[str], capsys: Captured, tmp_path: Path) -> None:
    out = ["-o", str(tmp_path / "x")]
    redact = ["--redact", "column:a.b.c", "--redact", "detector:email"]
    said(capsys, [*up, "export", "last", "f1", *redact, "--reason", "case & 7", "--format", "jsonl", *out])
    said(capsys, [*up, "export", "--who", "acme", "--since", "2026-11-21", "--bundle", *out])
    said(capsys, [*up, "export", "--all", "--format", "asciicast", *out])
    (first, by), (second, _), (third, _) = hub.exports
    assert first == Export(("f2", "f1"), format="jsonl", redact=("column:a.b.c", "detector:email"), reason="case & 7")
    assert second == Export(wanted=Filter(who="acme", since=1795219200.0, limit=0), bundle=True)
    assert third == Export(format="asciicast")
    assert by.endswith("(uid 0)")


@pytest.mark.parametrize("words", [[], ["f1", "--all"], ["f1", "--who", "acme"], ["--all", "--who", "acme"]])
def test_an_export_says_which_sessions_in_one_way(hub: Hub, up: list[str], capsys: Captured, words: list[str]) -> None:
    text = refused(capsys, [*up, "export", *words, "-o", "x"], 2)
    assert text == "export: which sessions?\nhint: IDs, or what they are found by, or --all: one of these\n"
    assert hub.exports == []


def test_a_format_that_is_not_known(up: list[str], capsys: Captured) -> None:
    text = refused(capsys, [*up, "export", "f1", "--format", "pdf", "-o", "x"], 2)
    assert text.startswith("format: `pdf` is not known")
    assert "hint: one of pcapng, jsonl, asciicast" in text


def test_max_query_bounds_the_sessions_that_can_be_named(hub: Hub, up: list[str], capsys: Captured) -> None:
    assert MAX_QUERY == 8_000
    hub.items = [type(hub.items[0])(*[f"{n:026d}", *[getattr(hub.items[0], f) for f in hub.items[0].__struct_fields__[1:]]]) for n in range(400)]
    text = refused(capsys, [*up, "export", *(item.id for item in hub.items), "-o", "x"], 2)
    assert "400 sessions are too many to name" in text and "say what they are found by" in text


def test_an_empty_piece_of_an_export_is_no_end(hub: Hub) -> None:
    hub.pieces = lambda: iter([b"", b"one", b"", b"", b"two", b""])
    connection = open_connection(hub.socket)
    connection.request("GET", "/export?all=1")
    assert connection.getresponse().read() == b"onetwo"
    connection.close()


@pytest.mark.parametrize("query", ["", "format=pcapng", "bundle=1", "who=a&since=yesterday", "limit=x"])
def test_an_export_of_nobody_or_nonsense_is_400(hub: Hub, query: str) -> None:
    assert ask(hub, "GET", f"/export?{query}")[0] == 400
    assert hub.exports == []


def test_a_filter_of_an_export_is_that_of_sessions(hub: Hub) -> None:
    connection = open_connection(hub.socket)
    connection.request("GET", f"/export?text={quote('a b')}&table=t&limit=3&redact=detector:email&redact=column:x&reason=r&bundle=1")
    connection.getresponse().read()
    connection.close()
    ((found, _),) = hub.exports
    assert found == Export((), Filter(text="a b", table="t", limit=3), "pcapng", True, ("detector:email", "column:x"), "r")


# -- without a hub ----------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> list[str]:
    home = tmp_path / "state"
    home.mkdir()
    store = Store(home)
    keys = home / "keys"
    keys.mkdir(mode=0o700)
    (keys / "record.key").write_bytes(SECRET)
    (keys / "record.key").chmod(0o600)
    facts = (("effect", ("drop",)), ("table", ("public.users",)))
    drop = Note("message", "drop table users", C, "query", b"Q", count=1, facts=facts)
    store.write(flow("f1"), [opened(), drop, *asked("drop table users", NO_DROP)[1:], closed()], T)
    store.write(flow("f2", T + 9, port=2), [opened("zeta"), *asked("select 'ada@example.org'"), closed()], T + 9)
    store.seal()
    store.keeper.close()
    return ["--config", write_config(tmp_path, tmp_path / "run")]


def found(capsys: Captured, words: list[str]) -> list[str]:
    return [one["id"] for one in json.loads(said(capsys, words))]


def test_sessions_are_found_without_a_hub(recorded: list[str], capsys: Captured) -> None:
    search = [*recorded, "sessions", "--json"]
    assert found(capsys, search) == ["f2", "f1"]
    assert found(capsys, [*search, "--table", "users"]) == ["f1"]
    assert found(capsys, [*search, "--statement", "DROP  table *"]) == ["f1"]
    assert found(capsys, [*search, "--text", "ada"]) == ["f2"]
    assert found(capsys, [*search, "--rule", "no-drop", "--who", "acme*"]) == ["f1"]
    assert said(capsys, [*recorded, "sessions", "--table", "nothing"]) == "No session matches.\n"


def test_a_bundle_without_a_hub_is_whole_and_on_record(recorded: list[str], capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "case.tar"
    said(capsys, [*recorded, "export", "--rule", "no-drop", "--bundle", "--reason", "case 7", "-o", str(out)])
    subprocess.run(["tar", "-xf", out, "-C", tmp_path], check=True)
    (root,) = tmp_path.glob("vendorgate-export-*")
    assert main([*recorded, "verify", str(root)]) == 0, capsys.readouterr()
    assert "whole" in capsys.readouterr().out
    assert json.loads((root / "sessions.json").read_text())[0]["id"] == "f1"
    deeds = [deed for path in files(tmp_path / "state/proof") for one in entries(path) for deed in one.entry.deeds]
    (deed,) = [deed for deed in deeds if deed.kind == "export"]
    assert (deed.ids, deed.why) == (("f1",), "case 7") and "root" in deed.by
    assert deed.text == "bundle of 1 sessions; found by --rule no-drop"
    (root / "sessions.pcapng").write_bytes(b"")
    assert main([*recorded, "verify", str(root)]) == 1
    assert capsys.readouterr().out.startswith(f"{root}/sessions.pcapng: byte 0: the file has 0 bytes")
    assert verify(tmp_path / "state").whole


def test_an_export_that_finds_nothing_is_a_no(recorded: list[str], capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert "no session matches" in refused(capsys, [*recorded, "export", "--who", "nobody", "-o", str(out)], 1)
    assert not out.exists()


def test_redaction_without_a_hub(recorded: list[str], capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    said(capsys, [*recorded, "export", "f2", "--format", "jsonl", "--redact", "detector:email", "-o", str(out)])
    assert b"ada@example.org" not in out.read_bytes() and b"select '" in out.read_bytes()
    (tmp_path / "rules.d" / "10.yaml").write_text("patterns: {word: 'sel[a-z]+'}\nrules: [{id: a, when: {detect: [word]}, do: block}]\n")
    said(capsys, [*recorded, "export", "f2", "--format", "jsonl", "--redact", "detector:word", "-o", str(out)])
    assert b"select" not in out.read_bytes()
    text = refused(capsys, [*recorded, "export", "f2", "--redact", "detector:none", "-o", str(out)], 2)
    assert "`none` is no detector" in text and "word" in text
