"""`vendorgate init`: what it asks and writes, that it is in order, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from appliance import config
from appliance.cli import main
from appliance.service import starter
from appliance.service.starter import PURPOSES

Captured = pytest.CaptureFixture[str]
SERVERS = {"postgres": "postgres:10.0.3.2:5432", "mysql": "mysql:10.0.3.3:3306", "redis": "redis:10.0.3.4:6379", "http": "http:api.example:443"}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    path = tmp_path / "vendorgate.yaml"
    path.write_text(f"rules: {tmp_path}/rules.d\n")
    return ["--config", str(path)]


def run(words: list[str], answers: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "appliance.cli", *words], input=answers, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("may", ["read-only", "hygiene"])
@pytest.mark.parametrize("protocol", list(SERVERS))
def test_a_starter_is_in_order_and_its_tests_pass(words: list[str], tmp_path: Path, may: str, protocol: str, capsys: Captured) -> None:
    assert main([*words, "init", "--name", "acme", "--target", f"there={SERVERS[protocol]}", "--may", may, "--reviewers", "dba", "--yes"]) == 0
    out = capsys.readouterr().out
    path = tmp_path / "rules.d/50-acme.yaml"
    assert out.startswith(f"{path}: ")
    assert "put it under control:       vendorgate adopt acme.service\n" in out
    text = path.read_text()
    document = yaml.safe_load(text)
    assert document["identities"] == {"acme": {"cgroup": "acme.service"}}
    assert set(document["targets"]) == {"there"}
    assert {(rule["who"], rule["to"]) for rule in document["rules"]} == {("acme", "there")}
    assert all(rule["id"].startswith("acme-") for rule in document["rules"])
    groups = {rule["approvers"]["group"] for rule in document["rules"] if "approvers" in rule}
    assert groups == ({"dba"} if may == "hygiene" else set())
    assert any(rule["do"] == "mask" for rule in document["rules"])
    assert text.count("#") > 10  # it says what it is
    if protocol != "http":  # whose name does not resolve here
        assert main([*words, "rules", "test"]) == 0
        assert "all as expected" in capsys.readouterr().out


def test_several_servers_of_several_protocols(words: list[str], tmp_path: Path) -> None:
    targets = [word for text in (*SERVERS.values(), "more=postgres:10.0.3.9:5432") for word in ("--target", text)]
    assert main([*words, "init", "--name", "acme", *targets, "--may", "hygiene", "--no-mask", "--yes"]) == 0
    document = yaml.safe_load((tmp_path / "rules.d/50-acme.yaml").read_text())
    assert list(document["targets"]) == ["postgres-10.0.3.2", "mysql-10.0.3.3", "redis-10.0.3.4", "http-api.example", "more"]
    assert ["postgres-10.0.3.2", "more"] in [rule["to"] for rule in document["rules"]]
    assert not [rule for rule in document["rules"] if rule["do"] == "mask"]


def test_it_asks(words: list[str], tmp_path: Path) -> None:
    answers = "acme\n\norders=postgres:10.0.3.2:5432\nnonsense\n\nhygiene\ndba\ny\ny\n"
    done = run([*words, "init"], answers)
    assert done.returncode == 0, done.stderr
    for question in (
        "What is the agent called [acme]:",
        "Its unit, or cgroup below the slice [acme.service]:",
        "A server it may speak to, as postgres:db.internal:5432 (nothing: none yet):",
        "Another, or nothing:",
        "What may it do there (read-only, hygiene, nothing) [read-only]:",
        "Who releases what is held (a group of this host) [ops]:",
        "Hide personal data in results? [Y/n]:",
        f"Write {tmp_path}/rules.d/50-acme.yaml? [Y/n]:",
    ):
        assert question in done.stdout
    assert "nonsense: is no server\nhint: write protocol:address:port" in done.stderr
    assert (tmp_path / "rules.d/50-acme.test.yaml").exists()


def test_no_is_no(words: list[str], tmp_path: Path) -> None:
    done = run([*words, "init", "--name", "acme", "--unit", "a.service", "--target", SERVERS["redis"], "--may", "read-only", "--mask"], "n\n")
    assert (done.returncode, done.stderr) == (1, "nothing was written\n")
    assert not (tmp_path / "rules.d").exists()


def test_nothing_yet(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    assert main([*words, "init", "--name", "ci", "--unit", "ci-*.scope", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "vendorgate exec --identity ci -- COMMAND" in out
    assert "vendorgate learn --for 1h --who ci --open" in out
    policy = config.rules([("x.yaml", (tmp_path / "rules.d/50-ci.yaml").read_text())], lambda name: [])
    assert (policy.rules, policy.default, policy.identities[0].cgroup) == ((), "block", ("ci-*.scope",))


def test_json_writes_nothing(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    assert main([*words, "init", "--name", "acme", "--target", SERVERS["postgres"], "--json"]) == 0
    rules, tests = json.loads(capsys.readouterr().out)
    assert (rules["path"], tests["path"]) == (f"{tmp_path}/rules.d/50-acme.yaml", f"{tmp_path}/rules.d/50-acme.test.yaml")
    assert "acme-read-only-reads" in rules["text"]
    assert not (tmp_path / "rules.d").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], "--name says what the agent is called"),
        (["--name", "a b"], "--name a b: is not a name\nhint: letters, digits"),
        (["--name", "a", "--unit", "/x"], "--unit /x: is not a path below the slice\nhint: write it as in a.service\n"),
        (["--name", "a", "--target", "x"], "x: is no server\nhint: write protocol:address:port, as in postgres:db.internal:5432\n"),
        (["--name", "a", "--target", "postgre:1.2.3.4:5"], "protocol `postgre` is not known\nhint: did you mean `postgres`?\n"),
        (["--name", "a", "--target", "postgres:1.2.3.4:99999"], "50-a.yaml:16: target postgres-1.2.3.4: "),
        (["--name", "a", "--target", "udp:1.2.3.4:5"], "no pack of rules for udp does that\nhint: "),
        (["--name", "a", "--target", "redis:1.2.3.4:5", "--target", "redis:1.2.3.4:6"], "--target: two servers have one name\nhint: give them names"),
        (["--name", "a", "--may", "all"], "Invalid value for '--may'"),
    ],
)  # fmt: skip
def test_what_is_refused(words: list[str], tmp_path: Path, more: list[str], text: str, capsys: Captured) -> None:
    assert main([*words, "init", *more, "--yes"]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "rules.d").exists()


def test_nothing_is_overwritten_and_names_of_others_are_not_taken(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "rules.d").mkdir()
    (tmp_path / "rules.d/10.yaml").write_text("targets:\n  there: {protocol: postgres, address: ['10.0.0.1:5432']}\n")
    assert main([*words, "init", "--name", "acme", "--target", "there=postgres:10.0.3.2:5432", "--yes"]) == 2
    assert "target `there` is defined twice\nhint: the first is at rules.d/10.yaml:2" in capsys.readouterr().err
    assert main([*words, "init", "--name", "acme", "--yes"]) == 0
    assert main([*words, "init", "--name", "acme", "--yes"]) == 2
    assert "50-acme.yaml: is there already, and yours" in capsys.readouterr().err
    assert main([*words, "init", "--name", "acme", "--yes", "-o", str(tmp_path / "x.yaml")]) == 0
    assert main([*words, "init", "--name", "acme", "--yes", "-o", str(tmp_path / "x.yaml")]) == 2
    assert "x.yaml: is there already, and yours\nhint: -o writes elsewhere" in capsys.readouterr().err


def test_no_root_is_told(words: list[str], tmp_path: Path) -> None:
    code = "import sys, os; from appliance.cli import main; import appliance.cli.init; os.setresuid(65534, 65534, 65534); sys.exit(main(sys.argv[1:]))"
    (tmp_path / "rules.d").mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of"):
            break
    done = subprocess.run([sys.executable, "-c", code, *words, "init", "--name", "a", "--yes"], capture_output=True, text=True, env={**os.environ, "HOME": "/"})
    assert done.returncode == 3
    assert "50-a.test.yaml: permission denied\nhint: sudo vendorgate init ..., or -o to write elsewhere\n" in done.stderr


def test_every_purpose_has_its_packs() -> None:
    for protocol in SERVERS:
        for purpose in set(PURPOSES) - {"nothing"}:
            assert (starter.directory() / f"{protocol}-{purpose}.yaml").exists()
