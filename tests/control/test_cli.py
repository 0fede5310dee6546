"""The command line: help, errors, exit statuses and JSON shapes, against a real hub and without one."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from appliance.cli import COMMANDS, Lazy, cli, main, screen
from appliance.cli.site import MAX_CONFIG
from appliance.cli.store import INDEX, RECORDS
from appliance.cli.words import Moment
from appliance.control.desk import Status
from appliance.model import Note
from appliance.record.frame import Frame
from tests.control.hub import Hub, running, session
from tests.control.test_approvals import PSQL, question
from tests.record import samples

GOLDEN = Path(__file__).parent / "golden"
COMMAND = [sys.executable, "-m", "appliance.cli"]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("VENDORGATE_CONFIG", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        yield hub


def write_config(directory: Path, runtime: Path) -> str:
    (directory / "rules.d").mkdir(exist_ok=True)
    path = directory / "vendorgate.yaml"
    path.write_text(f"rules: {directory}/rules.d\nstate_dir: {directory}/state\nruntime_dir: {runtime}\n")
    return str(path)


@pytest.fixture
def up(hub: Hub, tmp_path: Path) -> list[str]:
    """Words that name a configuration whose hub runs."""
    return ["--config", write_config(tmp_path, hub.socket.parent)]


@pytest.fixture
def down(tmp_path: Path) -> list[str]:
    """Words that name a configuration whose hub does not run."""
    return ["--config", write_config(tmp_path, tmp_path / "run")]


Captured = pytest.CaptureFixture[str]


def said(capsys: Captured, words: list[str], status: int = 0) -> str:
    """Run a command in this process; return what it printed."""
    assert main(words) == status, capsys.readouterr()
    return capsys.readouterr().out


def refused(capsys: Captured, words: list[str], status: int) -> str:
    """Run a command that fails; return what it said on stderr."""
    assert main(words) == status
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return found.err


def put(hub: Hub, id: str = "f1-1", **of: object) -> None:
    assert hub.call(lambda: hub.approvals.ask(question(id, now=time.time(), **of), time.time())) is None


# -- help -----------------------------------------------------------------------------------------------------------


BELOW = [
    "fence up",
    "fence down",
    "fence status",
    "rules check",
    "rules test",
    "rules explain",
    "rules schema",
    "trust show",
    "trust install",
    "trust remove",
    "trust kubeconfig",
]


def command_of(name: str) -> click.Command:
    assert isinstance(cli, Lazy)
    first, _, below = name.partition(" ")
    command = cli.get_command(click.Context(cli), first)
    assert command is not None
    if below:
        assert isinstance(command, click.Group)
        return command.commands[below]
    return command


@pytest.mark.parametrize("name", [*COMMANDS, *BELOW])
def test_every_command_teaches_by_an_example(name: str) -> None:
    help = command_of(name).help or ""
    assert "\b" in help
    example = help.rpartition("\b")[2].splitlines()
    assert any(line.strip().startswith("vendorgate ") and f" {name}" in line for line in example), help


def test_these_are_all_commands() -> None:
    groups = [name for name in COMMANDS if isinstance(command_of(name), click.Group)]
    found = [f"{name} {below}" for name in groups for below in command_of(name).commands]  # type: ignore[attr-defined]
    assert sorted(found) == sorted(BELOW)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    assert (command_of(name).help or "").startswith(COMMANDS[name][1].rstrip("."))


def test_the_help_is_as_written_down(capsys: Captured) -> None:
    assert said(capsys, ["--help"]) == (GOLDEN / "help.txt").read_text()


def test_no_words_is_wrong_use(capsys: Captured) -> None:
    assert main([]) == 2
    found = capsys.readouterr()
    assert "Commands:" in found.out + found.err


def test_help_imports_nothing_heavy() -> None:
    heavy = "aiohttp uvloop asyncio postgast hyperscan sqlite3 yaml http.client"
    code = f"import sys; from appliance.cli import main; main(['--help']); print([m for m in '{heavy}'.split() if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("words", [["status"], ["approvals"], ["sessions"]])
def test_clients_of_the_hub_import_no_server(words: list[str], down: list[str]) -> None:
    heavy = "aiohttp uvloop asyncio postgast"
    code = f"import sys; from appliance.cli import main; main({[*down, *words]}); print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys: Captured) -> None:
    assert re.fullmatch(r"vendorgate \d+\.\d+\.\d+\n", said(capsys, ["--version"]))


def test_bash_completion_works() -> None:
    env = {
        **os.environ,
        "_VENDORGATE_COMPLETE": "bash_complete",
        "COMP_WORDS": "vendorgate sess",
        "COMP_CWORD": "1",
    }
    code = "import sys; from appliance.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "plain,sessions\n"


# -- errors ---------------------------------------------------------------------------------------------------------

ERRORS = {
    "no such config": (["--config", "/nonexistent/x.yaml", "status"], 2),
    "hub down": (["--config", "CONFIG", "approvals"], 3),
    "approve hub down": (["--config", "CONFIG", "approve", "f1-1"], 3),
    "reload hub down": (["--config", "CONFIG", "reload"], 3),
    "nothing recorded": (["--config", "CONFIG", "sessions"], 1),
    "bad since": (["--config", "CONFIG", "sessions", "--since", "yesterday"], 2),
    "no rules directory": (["--config", "CONFIG", "rules", "check", "/nonexistent"], 2),
    "unknown command": (["--config", "CONFIG", "aprove"], 2),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_as_written_down(name: str, down: list[str], capsys: Captured) -> None:
    words, status = ERRORS[name]
    words = [down[1] if word == "CONFIG" else word for word in words]
    text = refused(capsys, words, status).replace(str(Path(down[1]).parent), "DIR")
    assert text == (GOLDEN / f"{name.replace(' ', '-')}.txt").read_text()


def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("slice: vendor.slice\nrulez: /etc\n")
    text = refused(capsys, ["--config", str(path), "status"], 2)
    assert text.startswith(f"{path}:2: ") and "rulez" in text and "hint: " in text


def test_a_config_that_is_no_text(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff")
    assert "is no UTF-8 text" in refused(capsys, ["--config", str(path), "status"], 2)


def test_limit_of_the_config(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("#" * (MAX_CONFIG + 1))
    assert f"longer than {MAX_CONFIG} bytes" in refused(capsys, ["--config", str(path), "status"], 2)


def test_the_environment_names_the_config(
    up: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("VENDORGATE_CONFIG", up[1])
    assert json.loads(said(capsys, ["status", "--json"]))["ready"] is True


def test_a_reader_that_has_enough_is_no_error(hub: Hub, up: list[str]) -> None:
    hub.items = [msgspec.structs.replace(hub.items[0], id=f"f{n}") for n in range(5000)]
    line = " ".join([*COMMAND, *up, "sessions", "--limit", "5000"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- status ---------------------------------------------------------------------------------------------------------


def test_status_json(up: list[str], capsys: Captured) -> None:
    document = json.loads(said(capsys, [*up, "status", "--json"]))
    assert {"ready", "rules_revision", "coverage", "fence", "losses"} <= document.keys()


def test_status_of_a_hub_that_is_down_still_tells_of_the_fence(down: list[str], capsys: Captured) -> None:
    document = json.loads(said(capsys, [*down, "status", "--json"], 1))
    assert document["ready"] is False
    assert not document["fence"]["up"]
    assert "is not running" in document["problems"][0]
    assert "not ready" in said(capsys, [*down, "status"], 1)


def test_status_says_why_the_rules_on_disk_are_not_in_force(capsys: Captured) -> None:
    from appliance.cli.status import _print

    _print(
        Status(
            ready=True,
            rules_error="rules.d/10.yaml:2: bad\nhint: good",
            fence={"up": False, "drops": {"no verdict": 3, "rest": 0}},
            losses={"notes": 0},
        )
    )
    text = capsys.readouterr().out
    assert "! the rules on disk are not in force:\n  rules.d/10.yaml:2: bad\n  hint: good\n" in text
    assert "up no, drops (no verdict 3)\n" in text
    assert re.search(r"losses +none\n", text)


def test_reload(hub: Hub, up: list[str], capsys: Captured) -> None:
    assert said(capsys, [*up, "reload"]) == "rules r2 are in force\n"
    hub.bad_rules = "rule no-drop: unknown field `acton`"
    text = refused(capsys, [*up, "reload"], 2)
    assert text == "rules.d/10.yaml:3: rule no-drop: unknown field `acton`\nhint: did you mean `action`?\n"


# -- approvals ------------------------------------------------------------------------------------------------------


def test_approvals_json(hub: Hub, up: list[str], capsys: Captured) -> None:
    put(hub)
    (one,) = json.loads(said(capsys, [*up, "approvals", "--json"]))
    assert {
        "id",
        "asked",
        "expires",
        "identity",
        "process",
        "target",
        "protocol",
        "message",
        "rule",
    } <= one.keys()


def test_approvals_show_all_a_reviewer_needs(hub: Hub, up: list[str], capsys: Captured) -> None:
    put(hub, text="create table t()\n-- no harm\x1b[2K\u202e")
    text = said(capsys, [*up, "approvals"])
    for part in ("f1-1", "acme: /usr/bin/psql, pid 41, uid 1001, in acme.service", "psql -c 'create table t()'",
                 "orders-db (10.0.3.2:5432, postgres)", "schema-needs-a-dba (10.yaml): ask", "1 approver of group dba"):  # fmt: skip
        assert part in text
    assert "| create table t()\n  | -- no harm\\x1b[2K\\u202e\n" in text


def test_one_question_is_shown_with_all_its_bytes_and_votes(hub: Hub, up: list[str], capsys: Captured) -> None:
    """What a body is in words ends after some thousand characters."""
    raw = b"POST / HTTP/1.1\r\n\r\n" + b"a" * 100_000 + b"\x1b[2K\xff the end"
    put(hub, text="POST /\n[more]", raw=raw, group="", count=2)
    hub.call(lambda: hub.approvals.answer("f1-1", "ann", (), approved=True, reason="", now=time.time()))
    assert "the end" not in said(capsys, [*up, "approvals"])
    text = said(capsys, [*up, "approvals", "f1"])
    assert "1 approver; approved by ann" in text and "  : POST / HTTP/1.1\n  : \n  : aaa" in text
    assert text.endswith("a\\x1b[2K\\xff the end\n")
    assert json.loads(said(capsys, [*up, "approvals", "f1-1", "--json"]))["size"] == len(raw)
    assert "is of all questions" in refused(capsys, [*up, "approvals", "f1-1", "--watch"], 2)
    put(hub, "f2-1", text="AUTH (redacted)", raw=b"", flow="f2")
    assert said(capsys, [*up, "approvals", "f2-1"]).endswith("they are a secret's, and are not shown\n")


def test_nothing_waits(up: list[str], capsys: Captured) -> None:
    assert said(capsys, [*up, "approvals"]) == "Nothing waits.\n"
    assert said(capsys, [*up, "approvals", "--json"]) == "[]\n"


def test_approve_and_deny(hub: Hub, up: list[str], capsys: Captured) -> None:
    put(hub, "f1-1")
    put(hub, "f1-2")
    assert said(capsys, [*up, "approve", "f1-1", "--reason", "ticket 7"]) == "approved f1-1\n"
    assert said(capsys, [*up, "deny", "f1-2"]) == "denied f1-2\n"
    assert [(e.kind, e.reason) for e in hub.call(hub.approvals.take)][2:] == [
        ("approved", "ticket 7"),
        ("denied", ""),
    ]
    assert refused(capsys, [*up, "approve", "f1-1"], 1).startswith("no question `f1-1` is waiting\n")


def test_the_first_of_two_approvals_is_fine_and_the_second_of_one_person_is_a_no(
    hub: Hub, up: list[str], capsys: Captured
) -> None:
    put(hub, count=2)
    assert said(capsys, [*up, "approve", "f1-1"]) == "approved by root; 1 more needed\n"
    assert "another person" in refused(capsys, [*up, "approve", "f1-1"], 1)


def test_an_approval_by_a_short_id_needs_a_terminal(hub: Hub, up: list[str], capsys: Captured) -> None:
    put(hub)
    for word in ("f1", "last"):
        done = subprocess.run(
            [*COMMAND, *up, "approve", word], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (
            2,
            f"`{word}`: an approval needs the whole id\nhint: f1-1\n",
        )
    assert hub.call(lambda: len(hub.approvals.pending(time.time()))) == 1
    assert said(capsys, [*up, "deny", "last"]) == "denied f1-1\n"


@pytest.mark.parametrize(("key", "status", "waiting"), [("y\n", 0, 0), ("n\n", 130, 1)])
def test_on_a_terminal_it_is_shown_and_asked_back(
    hub: Hub, up: list[str], key: str, status: int, waiting: int
) -> None:
    put(hub)
    code, text = on_terminal([*up, "approve", "f1"], typed=key)
    assert code == status
    assert "create table t()" in text and "Release this?" in text
    assert hub.call(lambda: len(hub.approvals.pending(time.time()))) == waiting


def test_a_short_id_of_several_is_wrong_use(hub: Hub, up: list[str], capsys: Captured) -> None:
    put(hub, "f1-1")
    put(hub, "f1-12")
    assert refused(capsys, [*up, "deny", "f1"], 2) == "`f1`: stands for several\nhint: f1-1 or f1-12?\n"
    assert said(capsys, [*up, "deny", "f1-1"]) == "denied f1-1\n"


def test_watch(hub: Hub, up: list[str]) -> None:
    put(hub)
    with subprocess.Popen(
        [*COMMAND, *up, "approvals", "--watch", "--json"], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout
        assert json.loads(watch.stdout.readline())["question"]["id"] == "f1-1"
        hub.call(lambda: hub.approvals.withdraw("f1-1", "left", time.time()))
        assert json.loads(watch.stdout.readline())["event"] == "gone"
        watch.terminate()


def test_a_watch_of_a_hub_that_stops_says_so(tmp_path: Path) -> None:
    with running() as hub:
        put(hub)
        words = ["--config", write_config(tmp_path, hub.socket.parent)]
        watch = subprocess.Popen(
            [*COMMAND, *words, "approvals", "--watch"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watch.stdout
        assert "f1-1" in watch.stdout.readline()
    _, error = watch.communicate(timeout=10)
    assert (watch.returncode, error) == (
        3,
        "the watch ended: vendorgate stopped\nhint: systemctl status vendorgate\n",
    )


# -- sessions -------------------------------------------------------------------------------------------------------


def test_sessions_json(up: list[str], capsys: Captured) -> None:
    found = json.loads(said(capsys, [*up, "sessions", "--json"]))
    assert [one["id"] for one in found] == ["f2", "f1"]
    assert list(found[0]) == [
        "id",
        "started",
        "ended",
        "identity",
        "process",
        "target",
        "protocol",
        "messages",
        "verdicts",
        "bytes",
        "rows",
        "masked",
        "answered_by",
        "revisions",
        "spent",
        "source",
    ]


def test_sessions_table(up: list[str], capsys: Captured) -> None:
    assert said(capsys, [*up, "sessions"]) == (GOLDEN / "sessions.txt").read_text()


def test_filters_go_to_the_hub(hub: Hub, up: list[str], capsys: Captured) -> None:
    words = ["--who", "acme*", "--exe", "psql", "--to", "orders-db", "--verdict", "block", "--limit", "7"]
    said(capsys, [*up, "sessions", *words, "--since", "2026-11-21", "--until", "2026-11-21T01:00+01:00"])
    (wanted,) = hub.filters
    assert (wanted.who, wanted.exe, wanted.to, wanted.verdict, wanted.limit) == (
        "acme*",
        "psql",
        "orders-db",
        "block",
        7,
    )
    assert wanted.since == wanted.until == 1795219200.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172800), ("1w", 604800)]
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert Moment().convert(text, None, None) == pytest.approx(time.time() - seconds, abs=5)


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1h", "1y", "9999999999d", "2026-13-01", "1h 2m"])
def test_no_times(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Moment().convert(text, None, None)


def kept(hub: Hub) -> None:
    flow = samples.flow("f1")
    notes = [
        samples.opened(),
        *samples.asked("select 1"),
        *samples.asked("drop table t", samples.NO_DROP, "f1-2"),
        samples.closed(),
    ]
    hub.kept["f1"] = [
        Frame(n, samples.T + n, "f1", note, flow=None if n else flow) for n, note in enumerate(notes)
    ]


def test_show(hub: Hub, up: list[str], capsys: Captured) -> None:
    kept(hub)
    text = said(capsys, [*up, "show", "f1"])
    assert "select 1" in text and "destructive statements are not allowed" in text and "acme-psql" in text


def test_show_json(hub: Hub, up: list[str], capsys: Captured) -> None:
    kept(hub)
    document = json.loads(said(capsys, [*up, "show", "f1", "--json"]))
    assert document["session"]["id"] == "f1"
    assert [note["kind"] for note in document["notes"]] == [
        "opened",
        "message",
        "decision",
        "message",
        "decision",
        "closed",
    ]


def test_last_is_the_newest_and_a_short_id_will_do(hub: Hub, up: list[str], capsys: Captured) -> None:
    hub.items = [msgspec.structs.replace(hub.items[0], id=id) for id in ("bc2", "bc1", "a")]
    hub.kept = {id: [Frame(0, 1.0, id, Note("closed", "ended"))] for id in ("bc2", "bc1", "a")}
    assert json.loads(said(capsys, [*up, "show", "last", "--json"]))["session"]["id"] == "bc2"
    assert json.loads(said(capsys, [*up, "show", "bc1", "--json"]))["session"]["id"] == "bc1"
    assert refused(capsys, [*up, "show", "bc"], 2) == "`bc`: stands for several sessions\nhint: bc2 or bc1?\n"
    assert refused(capsys, [*up, "show", "x"], 1) == "no session `x`\nhint: vendorgate sessions lists them\n"
    assert refused(capsys, [*up, "show", ""], 1).startswith("no session ``")


def test_a_whole_id_is_never_short_for_another(hub: Hub, up: list[str], capsys: Captured) -> None:
    hub.items = [msgspec.structs.replace(hub.items[0], id=id) for id in ("ab", "a")]
    hub.kept = {"a": [], "ab": []}
    assert json.loads(said(capsys, [*up, "show", "a", "--json"]))["session"]["id"] == "a"


def test_replay_keeps_the_pauses_by_its_speed(hub: Hub, up: list[str], capsys: Captured) -> None:
    kept(hub)
    started = time.monotonic()
    text = said(capsys, [*up, "replay", "f1", "--speed", "20"])
    assert 0.2 < time.monotonic() - started < 5
    assert "drop table t" in text
    started = time.monotonic()
    said(capsys, [*up, "replay", "f1", "--longest", "0"])
    said(capsys, [*up, "replay", "f1", "--speed", "inf"])
    assert time.monotonic() - started < 3  # the session took 5


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "x"])
def test_replay_at_no_speed_is_wrong_use(up: list[str], capsys: Captured, speed: str) -> None:
    refused(capsys, [*up, "replay", "f1", "--speed", speed], 2)


# -- export ---------------------------------------------------------------------------------------------------------


def test_export(up: list[str], capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "x.pcapng"
    out.write_bytes(b"older")
    assert main([*up, "export", "last", "f1", "-o", str(out)]) == 0
    assert capsys.readouterr().err == f"{out}: 6 B\n"
    assert out.read_bytes() == b"onetwo"
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rules.d", "vendorgate.yaml", "x.pcapng"]


def test_export_to_stdout(up: list[str]) -> None:
    done = subprocess.run([*COMMAND, *up, "export", "last", "-o", "-"], capture_output=True)
    assert (done.stdout, done.stderr) == (b"onetwo", b"")


def test_an_export_that_breaks_off_leaves_no_file(
    hub: Hub, up: list[str], capsys: Captured, tmp_path: Path
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise OSError("disk")

    hub.pieces = broken
    out = tmp_path / "x.pcapng"
    out.write_bytes(b"older")
    assert "broke off" in refused(capsys, [*up, "export", "f1", "-o", str(out)], 3)
    assert out.read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 3


def test_an_export_of_nothing_is_a_no(hub: Hub, up: list[str], capsys: Captured, tmp_path: Path) -> None:
    hub.pieces = lambda: iter(())
    assert "is left in the record" in refused(capsys, [*up, "export", "f1", "-o", str(tmp_path / "x")], 1)
    assert not (tmp_path / "x").exists()


def test_an_export_into_no_directory(up: list[str], capsys: Captured) -> None:
    assert refused(capsys, [*up, "export", "f1", "-o", "/nonexistent/x"], 3).endswith(
        "No such file or directory\n"
    )


def test_an_export_does_not_go_to_a_terminal(up: list[str]) -> None:
    code, text = on_terminal([*up, "export", "f1", "-o", "-"])
    assert code == 2 and "stdout is a terminal" in text


def test_an_unknown_format_is_wrong_use(up: list[str], capsys: Captured) -> None:
    refused(capsys, [*up, "export", "f1", "--format", "pdf", "-o", "x"], 2)


# -- without a hub --------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(down: list[str], tmp_path: Path) -> list[str]:
    records = tmp_path / "state" / RECORDS
    records.mkdir(parents=True)
    samples.write(
        records, samples.flow("f1"), [samples.opened(), *samples.asked("select 1"), samples.closed()]
    )
    return down


def test_the_record_is_read_when_the_hub_is_down(
    recorded: list[str], capsys: Captured, tmp_path: Path
) -> None:
    assert main([*recorded, "sessions", "--json"]) == 0
    found = capsys.readouterr()
    assert found.err == f"vendorgate is not running: reading the record in {tmp_path}/state\n"
    assert json.loads(found.out)[0]["id"] == "f1"
    assert "select 1" in said(capsys, [*recorded, "show", "last"])
    assert "select 1" in said(capsys, [*recorded, "replay", "f1", "--speed", "inf"])
    out = tmp_path / "x.jsonl"
    said(capsys, [*recorded, "export", "last", "--format", "jsonl", "-o", str(out)])
    assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == [
        "opened",
        "message",
        "decision",
        "closed",
    ]
    said(capsys, [*recorded, "export", "last", "-o", str(out)])
    assert out.read_bytes()[:4] == b"\n\r\r\n"


def test_the_files_are_where_the_service_puts_them(tmp_path: Path) -> None:
    from appliance.service.launch import User
    from appliance.service.stores import Stores

    stores = Stores(tmp_path, User("x", os.geteuid(), os.getegid()))
    stores.close()
    assert (stores.records, stores.index) == (tmp_path / RECORDS, tmp_path / INDEX)


# -- the screen -----------------------------------------------------------------------------------------------------


def on_terminal(words: list[str], typed: str = "", **env: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its status and what was on it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **env},
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    out = b""
    try:
        while piece := os.read(ours, 4096):
            out += piece
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return process.wait(10), out.decode()


def test_colours_are_for_terminals_and_NO_COLOR_is_honoured(up: list[str], capsys: Captured) -> None:
    assert "\x1b" in on_terminal([*up, "sessions"])[1]
    assert "\x1b" not in on_terminal([*up, "sessions"], NO_COLOR="1")[1]
    assert "\x1b" not in said(capsys, [*up, "sessions"])


def test_json_has_no_colours_on_a_terminal(up: list[str]) -> None:
    assert "\x1b" not in on_terminal([*up, "sessions", "--json"])[1]


EVIL = "\x1b]0;owned\x07\x9b31m\u202e\u3164\r"


@pytest.mark.parametrize(
    "words",
    [
        ["approvals"],
        ["approvals", "--json"],
        ["sessions"],
        ["sessions", "--json"],
        ["freeze", EVIL],
        ["deny", EVIL],
        ["deny", f"{EVIL}-none"],
        ["show", EVIL],
    ],
    ids=lambda words: " ".join(map(ascii, words)),
)
def test_nothing_a_vendor_or_a_worker_says_commands_a_terminal(
    hub: Hub, up: list[str], capsys: Captured, words: list[str]
) -> None:
    """Ids and addresses are a worker's; cgroups a vendor's, where it may make some."""
    evil = msgspec.structs.replace(PSQL, exe=EVIL, argv=(EVIL,), cgroup=EVIL, script=EVIL, became=PSQL)
    put(hub, EVIL, text=EVIL, process=evil, flow=EVIL, identity=EVIL, target=EVIL, protocol=EVIL, rule=EVIL)
    one = session(EVIL, 1_760_000_000.0)
    hub.items = [msgspec.structs.replace(one, identity=EVIL, target=EVIL, verdicts={EVIL: 1}, protocol=EVIL)]
    hub.kept = {EVIL: [Frame(1, 1.0, EVIL, Note("opened", EVIL), flow=samples.flow(EVIL, process=evil))]}
    main([*up, *words])
    found = capsys.readouterr()
    said = found.out + found.err
    assert "owned" in said and said.replace("\n", "").isprintable() and "\u3164" not in said


@pytest.mark.parametrize(
    "words",
    [["deny", "f1-1", "--reason", "\udcff"], ["show", "\udcff"], ["sessions", "--text", "\udcff"], ["freeze", "\udcff"],
     ["export", "f1", "--redact", "\udcff", "-o", "x"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_word_that_is_no_text_is_wrong_use(hub: Hub, up: list[str], capsys: Captured, words: list[str]) -> None:
    put(hub)
    assert refused(capsys, [*up, *words], 2).endswith("\\udcff` cannot be written in UTF-8\n")


def test_a_watch_in_json_has_nothing_invisible(hub: Hub, up: list[str]) -> None:
    watch = subprocess.Popen([*COMMAND, *up, "approvals", "--watch", "--json"], stdout=subprocess.PIPE)
    put(hub, "f1-1", text=EVIL)
    assert watch.stdout
    line = watch.stdout.readline().decode()
    watch.kill()
    watch.communicate()
    assert line.rstrip("\n").isprintable() and json.loads(line)["question"]["message"] == EVIL


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("a\nb\tc\r", "a\\nb\\tc\\x0d"), ("\x1b[31m", "\\x1b[31m"), ("\u202e", "\\u202e"),
     ("\u200b", "\\u200b"), ("\udcff", "\\udcff"), ("é漢", "é漢"), ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
     ("t\u3164", "t\\u3164"), ("t\ufe01\u2800", "t\\ufe01\\u2800"), ("t\U000e0100", "t\\U000e0100")],
)  # fmt: skip
def test_invisible_text_is_made_visible(text: str, shown: str) -> None:
    assert screen.visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-5, "0s"), (59.6, "1m"), (588, "9m48s"), (3600, "1h"), (190000, "2d4h")]
)
def test_span(seconds: float, text: str) -> None:
    assert screen.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (5 << 42, "20480.0 GiB")],
)
def test_amount(count: int, text: str) -> None:
    assert screen.amount(count) == text
