"""The record of a whole appliance as those see it who use it: found, timed, handed over, proven, and less of it for others."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres, postgres_bin
from appliance.record.checkpoint import entries, files
from tests.peer.test_appliance import PORT, RULES, lab, server
from tests.record.test_pcapng import complaints, fields

__all__ = ["lab", "server"]
pytestmark = [pytest.mark.kernel, pytest.mark.peer]

QUIET = "  - {{id: quiet, who: acme, to: db, when: {{table: public.orders}}, do: allow, record: metadata}}\n  - {{id: work"


def psql(lab: Lab, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script that stands on no command line."""
    address = f"host={lab.target_ip} port={PORT} dbname=shop user=acme password=secret connect_timeout=20 sslmode=disable"
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", address]
    return lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60, input=script)


@pytest.fixture(scope="module")
def appliance(lab: Lab, server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    rules = RULES.replace("  - {{id: work", QUIET).format(v4=lab.target_ip, v6=lab.target_ip6, port=PORT)
    with Appliance(lab, tmp_path_factory.mktemp("vg"), {"10-test.yaml": rules}) as appliance:
        assert psql(lab, "select name, ssn, card from users order by id").returncode == 0
        assert psql(lab, "drop table users;").returncode == 3
        assert psql(lab, "select note from orders where id = 2").stdout == "second\n"
        assert psql(lab, "alter role acme password 'hunter2';").returncode == 3
        yield appliance


def found(appliance: Appliance, *words: str) -> list[dict[str, object]]:
    return appliance.json("sessions", *words)  # type: ignore[no-any-return]


def test_sessions_are_found_by_what_was_done_in_them(appliance: Appliance) -> None:
    assert len(found(appliance)) == 4
    (reads,) = found(appliance, "--statement", "SELECT name, ssn, card from users *")
    (drop,) = found(appliance, "--statement", "drop table users")
    (orders,) = found(appliance, "--table", "orders")
    assert len({str(one["id"]) for one in (reads, drop, orders)}) == 3
    assert {str(one["id"]) for one in found(appliance, "--table", "public.users")} == {str(reads["id"]), str(drop["id"])}
    assert found(appliance, "--verdict", "block", "--rule", "no-destructive") == [drop]
    assert len(found(appliance, "--text", "42501")) == 2
    assert found(appliance, "--exe", "psql", "--who", "psql", "--to", "db", "--table", "orders") == [orders]
    assert found(appliance, "--text", '"select note"') == [], "at this level no statement is kept"
    assert found(appliance, "--who", "nobody") == []


def test_a_session_tells_where_its_time_went(appliance: Appliance) -> None:
    (reads,) = found(appliance, "--table", "public.users", "--verdict", "mask")
    spent = reads["spent"]
    assert isinstance(spent, dict) and {"parse", "policy", "upstream"} <= spent.keys()
    assert all(0 < spent[part] < 60 for part in ("parse", "policy", "upstream"))
    assert (reads["rows"], reads["masked"]) == (3, 2)
    assert reads["revisions"] == [appliance.json("status")["rules_revision"]]


def test_a_rule_keeps_less_of_what_it_matches(appliance: Appliance) -> None:
    (orders,) = found(appliance, "--table", "orders")
    shown = appliance.cli("show", str(orders["id"]), "--json").stdout
    assert "second" not in shown and "select note" not in shown and '"rule": "quiet"' in shown
    notes = json.loads(shown)["notes"]
    assert {note.get("level") for note in notes if note["kind"] == "message" and note.get("dropped")} == {"metadata"}


def test_a_password_in_a_statement_is_nowhere(appliance: Appliance) -> None:
    (session,) = found(appliance, "--text", "password")
    shown = appliance.cli("show", str(session["id"])).stdout
    assert "alter role acme password *********" in shown and "hunter2" not in shown
    state = appliance.home / "state"
    assert not [path for path in state.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_bundle_from_the_hub_is_whole_on_record_and_read_by_wireshark(appliance: Appliance, tmp_path: Path) -> None:
    out = tmp_path / "case.tar"
    appliance.cli("export", "--who", "psql", "--bundle", "--reason", "case 7", "-o", str(out))
    subprocess.run(["tar", "-xf", out, "-C", tmp_path], check=True)
    (root,) = tmp_path.glob("vendorgate-export-*")
    done = subprocess.run(["python3", "-I", root / "verify.py", root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaints(root / "sessions.pcapng") == ""
    kinds = [one for line in fields(root / "sessions.pcapng", "pgsql.type", only="pgsql") for one in line[0].split(",")]
    assert kinds.count("Startup message") == 4
    revision = str(appliance.json("status")["rules_revision"])
    assert "no-destructive" in (root / "rules" / revision / "10-test.yaml").read_text()
    assert len(list((root / "casts").iterdir())) == 4
    (root / "sessions.jsonl").write_bytes((root / "sessions.jsonl").read_bytes()[:-2])
    done = subprocess.run(["python3", "-I", root / "verify.py", root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout.startswith(f"{root}/sessions.jsonl: byte 0: the file has")
    state = appliance.home / "state"
    deeds = [deed for path in files(state / "proof") for one in entries(path) for deed in one.entry.deeds]
    (deed,) = [deed for deed in deeds if deed.kind == "export" and deed.why == "case 7"]
    assert deed.by == "root (uid 0)" and len(deed.ids) == 4 and deed.text.startswith("bundle of 4 sessions")


def test_others_get_less(appliance: Appliance, tmp_path: Path) -> None:
    out = tmp_path / "x.pcapng"
    words = ["--redact", "column:public.users.name", "--redact", "detector:credit_card", "-o", str(out)]
    appliance.cli("export", "--table", "public.users", *words)
    data = out.read_bytes()
    assert b"Grace" not in data and b"4111 1111 1111 1111" not in data and b"drop table users" in data
    assert b"*******4320" in data, "what the rules mask stays as it was"
    assert complaints(out) == ""
