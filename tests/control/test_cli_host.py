"""Commands that need no hub: rules, fence, check, run. Their engines are tested elsewhere; here it is the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import main

RULES = """\
identities:
  acme: {cgroup: acme.service}
  psql: {cgroup: acme.service, exe: /usr/bin/psql}
targets:
  orders-db: {protocol: postgres, address: ["10.0.3.2:5432"]}
rules:
  - {id: no-drop, who: acme, to: orders-db, when: {effect: [drop]}, do: block, reason: destructive}
  - {id: psql-first, who: psql, when: {effect: schema}, do: approve, approvers: {group: dba}}
  - {id: reads, to: orders-db, when: {effect: [read, session]}, do: allow}
"""
TESTS = """\
tests:
  - {identity: acme, target: orders-db, statement: drop table t, expect: block, rule: no-drop}
  - {name: ddl, identity: acme, target: orders-db, statement: create table t(), expect: EXPECT}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    directory = tmp_path / "rules.d"
    directory.mkdir()
    (directory / "10.yaml").write_text(RULES)
    (directory / "10.test.yaml").write_text(TESTS.replace("EXPECT", "block"))
    return directory


@pytest.fixture
def config(tmp_path: Path, rules: Path) -> list[str]:
    path = tmp_path / "vendorgate.yaml"
    path.write_text(
        f"slice: vg-cli-test.slice\nrules: {rules}\nstate_dir: {tmp_path}/s\nruntime_dir: {tmp_path}/r\n"
    )
    return ["--config", str(path)]


def run(capsys: Captured, words: list[str], status: int) -> "tuple[str, str]":
    assert main(words) == status, capsys.readouterr()
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return found.out, found.err


# -- rules ----------------------------------------------------------------------------------------------------------


def test_rules_check(config: list[str], rules: Path, capsys: Captured) -> None:
    said, _ = run(capsys, [*config, "rules", "check"], 0)
    assert said.startswith("rules: 3, identities: 2, targets: 1, default: block, revision: ")
    assert run(capsys, [*config, "rules", "check", str(rules)], 0)[0] == said
    assert run(capsys, [*config, "rules", "check", str(rules / "10.yaml")], 0)[0].startswith("rules: 3")


def test_rules_check_names_file_line_and_a_hint(config: list[str], rules: Path, capsys: Captured) -> None:
    (rules / "20.yaml").write_text("rules:\n  - {id: x, to: orders-db, acton: block, do: block}\n")
    _, error = run(capsys, [*config, "rules", "check"], 2)
    assert error.startswith("rules.d/20.yaml:2: rule x: unknown field `acton`")
    assert "\nhint: " in error


def test_rules_check_of_a_name_that_does_not_resolve(
    config: list[str], rules: Path, capsys: Captured
) -> None:
    (rules / "20.yaml").write_text(
        "targets:\n  far: {protocol: postgres, address: ['no-such-host.invalid:5432']}\n"
    )
    _, error = run(capsys, [*config, "rules", "check"], 2)
    assert error.startswith("rules.d/20.yaml:2: target far: name `no-such-host.invalid` does not resolve")


def test_rules_test(config: list[str], rules: Path, capsys: Captured) -> None:
    assert run(capsys, [*config, "rules", "test"], 0)[0] == "2 tests, all as expected\n"
    (rules / "10.test.yaml").write_text(TESTS.replace("EXPECT", "allow"))
    said, error = run(capsys, [*config, "rules", "test"], 1)
    assert said.startswith(f"FAIL {rules}/10.test.yaml:3: ddl\n     expected allow, got block by ")
    assert error == "1 of 2 tests failed\n"
    document = json.loads(run(capsys, [*config, "rules", "test", "--json"], 1)[0])
    assert [one["ok"] for one in document] == [True, False]
    assert {"name", "where", "expected", "actual", "rule", "reason", "why"} <= document[0].keys()


def test_rules_test_without_tests(config: list[str], rules: Path, capsys: Captured) -> None:
    (rules / "10.test.yaml").unlink()
    assert run(capsys, [*config, "rules", "test"], 0)[0] == "no tests (*.test.yaml) here\n"


@pytest.mark.parametrize(
    ("words", "verdict", "rule"),
    [
        (["--who", "acme", "drop table t"], "block", "no-drop"),
        (["--cgroup", "acme.service", "drop table t"], "block", "no-drop"),
        (["--cgroup", "acme.service", "--exe", "/usr/bin/psql", "create table t()"], "approve", "psql-first"),
        (["--cgroup", "acme.service", "--exe", "/bin/x", "create table t()"], "block", "default"),
        (["--who", "acme", "--to", "10.0.3.2:5432", "select 1"], "allow", "reads"),
        (["--who", "acme", "--to", "10.0.3.3:5432", "select 1"], "block", "default"),
        (["--who", "acme", "--before", "prepare p as drop table t", "execute p"], "block", "no-drop"),
    ],
)
def test_rules_explain(
    config: list[str], capsys: Captured, words: list[str], verdict: str, rule: str
) -> None:
    document = json.loads(run(capsys, [*config, "rules", "explain", "--json", *words], 0)[0])
    assert (document["decision"]["verdict"], document["decision"]["rule"]) == (verdict, rule)
    assert [step["rule"] for step in document["steps"] if step["decides"]] == [rule]
    said, _ = run(capsys, [*config, "rules", "explain", *words], 0)
    assert f"\n{verdict} by {rule}" in said
    assert f"-> {verdict}" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--who", "acne", "select 1"], "--who acne: is no identity\nhint: one of acme, psql\n"),
        (
            ["--to", "orders", "select 1"],
            "--to orders: is no target and no address\nhint: one of orders-db, or address:port\n",
        ),
        (["--who", "acme", "--exe", "/x", "select 1"], "either --who, or --cgroup and --exe"),
        (["--to", "10.0.3.2:5432", "--protocol", "gopher", "select 1"], "--protocol gopher: is not known"),
        ([], "Missing argument 'STATEMENT'"),
    ],
)
def test_rules_explain_of_what_is_not_there(
    config: list[str], capsys: Captured, words: list[str], text: str
) -> None:
    assert text in run(capsys, [*config, "rules", "explain", *words], 2)[1]


def test_rules_explain_asks_where_to_when_there_are_several(
    config: list[str], rules: Path, capsys: Captured
) -> None:
    (rules / "20.yaml").write_text("targets:\n  far: {protocol: postgres, address: ['10.9.9.9:5432']}\n")
    assert "--to says where it is sent: " in run(capsys, [*config, "rules", "explain", "select 1"], 2)[1]


@pytest.mark.parametrize("of", ["rules", "tests", "settings"])
def test_rules_schema(config: list[str], capsys: Captured, of: str) -> None:
    document = json.loads(run(capsys, [*config, "rules", "schema", of], 0)[0])
    assert document["type"] == "object"


def test_a_rules_file_that_is_no_text(config: list[str], rules: Path, capsys: Captured) -> None:
    (rules / "30.yaml").write_bytes(b"\xff")
    assert "is not UTF-8 at byte 0" in run(capsys, [*config, "rules", "check", str(rules / "30.yaml")], 2)[1]


# -- the host -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask the kernel")
def test_fence_status_of_no_fence(config: list[str], capsys: Captured) -> None:
    said, error = run(capsys, [*config, "fence", "status"], 1)
    assert said.startswith("vg-cli-test.slice: down")
    assert error.startswith("not in force: ") and error.endswith("hint: vendorgate fence up\n")
    document = json.loads(run(capsys, [*config, "fence", "status", "--json"], 1)[0])
    assert document["up"] is False and "vg_egress" in document["missing"]


def test_check_json_is_a_list_of_findings(config: list[str], capsys: Captured) -> None:
    status = main([*config, "check", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert all({"name", "ok", "what", "remedy", "promise"} <= one.keys() for one in found)
    assert status == (0 if all(one["ok"] for one in found) else 1)


def test_check_names_the_promise_that_is_lost(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"cgroup_root: {tmp_path}\nruntime_dir: {tmp_path}/r\n")
    said, error = run(capsys, ["--config", str(path), "check"], 1)
    assert "LACK   cgroup" in said and "lost: " in said and "remedy: " in said
    assert "found a lack" in error


def test_run_tells_a_wrong_setting_before_it_touches_anything(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("on_failure: opne\n")
    assert run(capsys, ["--config", str(path), "run"], 2)[1].startswith(f"{path}:1: on_failure: ")


def test_run_tells_wrong_rules_and_starts_nothing(config: list[str], rules: Path) -> None:
    (rules / "20.yaml").write_text("rules: 7\n")
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", *config, "run"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "rules.d/20.yaml:1: " in done.stderr and "Traceback" not in done.stderr
