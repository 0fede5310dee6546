"""`vendorgate learn`: rules that fit what was seen and nothing else; nothing is put in force; who is let by, for how long."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from appliance import config
from appliance.cli import main
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres, postgres_bin
from appliance.model import Address, ConfigError, Decision, Flow, Note, Process, Side
from appliance.policy import Policy
from appliance.record.frame import Frame
from appliance.service import learning, opening, proposing
from appliance.service.learning import Learner, Proposal, narrowed
from tests.evasion.host import until

PSQL = Process(1, 1, "/usr/bin/psql", ("psql",), "acme.service", 4711)
PYTHON = Process(2, 1, "/usr/bin/python3.11", ("python3",), "acme.service/sub", 4711, script="/opt/acme/agent.py")
DB = Address("10.0.3.2", 5432)
ALLOW, DEFAULT, RULE = Decision("allow", "wide"), Decision("block", "default"), Decision("block", "no-drop")
Told = tuple[tuple[str, tuple[str, ...]], ...]


def asked(text: str, decision: Decision = ALLOW, **facts: Sequence[str]) -> list[Note]:
    told: Told = tuple((key, tuple(values)) for key, values in sorted(facts.items()))
    return [Note("message", text, Side.CLIENT, "query", facts=told), Note("decision", text, decision=decision)]


def session(*requests: list[Note], protocol: str = "postgres", process: Process = PSQL, server: Address = DB) -> list[Frame]:
    flow = Flow("f", 1.0, Address("10.0.0.1", 4000), server, process)
    notes = [Note("opened", "", protocol=protocol, identity="acme"), *(note for request in requests for note in request), Note("closed")]
    return [Frame(n, 1.0, "f", note, flow=flow if n == 1 else None, number=n) for n, note in enumerate(notes, 1)]


def learned(*sessions: list[Frame], rules: str = "") -> tuple[Proposal, Policy]:
    learner = Learner()
    for frames in sessions:
        learner.session(frames)
    files = [("rules.d/10.yaml", rules)]
    proposal = learner.proposal(config.rules(files, lambda name: ["192.0.2.1"]), files)
    known = [(name, proposing.defined(text)) for name, text in files]
    return proposal, config.rules([*known, ("l.yaml", proposal.rules)], lambda name: ["192.0.2.1"])


def proved(proposal: Proposal, policy: Policy) -> list[str]:
    results = config.run(policy, [("l.test.yaml", proposal.tests)], lambda name: open_reader(name, Shared(), needs_catalog=False))
    assert all(result.ok for result in results), results
    return [result.actual for result in results]


def test_rules_allow_what_was_seen_and_nothing_else() -> None:
    proposal, policy = learned(
        session(asked("begin", effect=["session"]), asked("select", effect=["read"], table=["public.orders"])),
        session(asked("select", effect=["read"], table=["public.users"]), asked("insert", effect=["write"], table=["public.log"])),
    )
    document = yaml.safe_load(proposal.rules)
    assert document["identities"] == {"acme-psql": {"cgroup": "acme.service", "exe": "/usr/bin/psql"}}
    assert document["targets"] == {"postgres-10.0.3.2-5432": {"protocol": "postgres", "address": ["10.0.3.2:5432"]}}
    assert [rule["when"] for rule in document["rules"]] == [
        {"effect": ["read"], "table": ["public.orders", "public.users"]}, {"effect": ["session"]}, {"effect": ["write"], "table": ["public.log"]},
    ]  # fmt: skip
    assert {rule["do"] for rule in document["rules"]} == {"allow"}
    assert "default" not in document
    assert policy.default == "block"
    verdicts = proved(proposal, policy)
    assert verdicts.count("allow") == 4
    assert verdicts.count("block") >= 4
    assert (proposal.sessions, proposal.requests, proposal.proposed, proposal.refused) == (2, 4, 3, 0)


def test_each_program_has_its_own() -> None:
    proposal, _ = learned(
        session(asked("a", effect=["read"], table=["s.a"])),
        session(asked("b", effect=["read"], table=["s.b"]), process=PYTHON),
    )
    document = yaml.safe_load(proposal.rules)
    assert document["identities"]["acme-agent.py"] == {"cgroup": "acme.service", "exe": "/usr/bin/python3.11", "script": "/opt/acme/agent.py"}
    assert [(rule["who"], rule["when"]["table"]) for rule in document["rules"]] == [("acme-psql", ["s.a"]), ("acme-agent.py", ["s.b"])]


def test_http_goes_by_method_host_and_path() -> None:
    requests = [asked(f"GET /orders/{n}?x=1\nhost: api.example", effect=["read"]) for n in (7, 8)]
    requests.append(asked("POST /orders\nhost: api.example\ncontent-type: application/json\n\n{}", effect=["write"]))
    proposal, policy = learned(session(*requests, protocol="http", server=Address("10.0.3.9", 443)))
    rules = yaml.safe_load(proposal.rules)["rules"]
    assert [rule["when"] for rule in rules] == [
        {"host": ["api.example"], "method": ["GET"], "path": ["/orders/*"]}, {"host": ["api.example"], "method": ["POST"], "path": ["/orders"]},
    ]  # fmt: skip
    proved(proposal, policy)


def test_redis_goes_by_key() -> None:
    proposal, policy = learned(
        session(asked("GET", effect=["read"], key=["user:17"]), asked("GET", effect=["read"], key=["user:18"]), protocol="redis")
    )
    assert yaml.safe_load(proposal.rules)["rules"][0]["when"] == {"effect": ["read"], "key": ["user:*"]}
    proved(proposal, policy)


def test_what_a_rule_refuses_is_not_proposed_and_what_the_default_refuses_is() -> None:
    proposal, policy = learned(
        session(
            asked("drop", RULE, effect=["drop"], table=["public.t"]),
            asked("select", DEFAULT, effect=["read"], table=["public.t"]),
        )
    )
    assert proposal.refused == 1
    assert [rule["when"]["effect"] for rule in yaml.safe_load(proposal.rules)["rules"]] == [["read"]]
    proved(proposal, policy)


def test_a_target_in_force_is_used_and_names_do_not_clash() -> None:
    rules = 'identities:\n  acme-psql: {cgroup: x}\ntargets:\n  orders-db: {protocol: postgres, address: ["10.0.3.0/24:5432"]}\n'
    rules += "rules:\n  - {id: wide, who: acme-psql, to: orders-db, do: allow, when: {effect: read}}\n"
    proposal, policy = learned(session(asked("s", effect=["read"], table=["public.t"])), rules=rules)
    document = yaml.safe_load(proposal.rules)
    assert "targets" not in document
    assert [(rule["to"], rule["who"]) for rule in document["rules"]] == [("orders-db", "acme-psql-2")]
    proved(proposal, policy)
    config.rules([("a.yaml", proposal.rules), ("b.yaml", rules)], lambda name: [])  # they go together


def test_what_is_not_certain_is_told_and_not_proposed() -> None:
    proposal, _ = learned(
        session(
            asked("select a", effect=["read"], unknown=["table"]),
            asked("select b", effect=["read"], table=["?"]),
            asked("whatever"),
        ),
        session([Note("decision", "connect to 10.9.9.9:1", decision=DEFAULT)], protocol="", server=Address("10.9.9.9", 1)),
    )
    assert proposal.proposed == 0
    assert "\nrules:" not in proposal.rules
    text = " ".join(proposal.untold)
    assert "postgres at 10.0.3.2:5432: what `select a` does is not in the record (1 times)" in text
    assert "10.9.9.9:1 was refused before anything was said: learn again with --open" in text


def test_a_table_whose_schema_is_not_known_is_that_of_any() -> None:
    proposal, policy = learned(session(asked("s", effect=["read"], table=["?.users"])))
    assert yaml.safe_load(proposal.rules)["rules"][0]["when"]["table"] == ["users"]
    proved(proposal, policy)


def test_max_listed_names_are_put_together_by_how_they_begin() -> None:
    many = [f"/api/{name}/x" for name in "abcdefghijklmnopqrstuvwxyz"] + [f"/img/{a}{b}" for a in "abcdef" for b in "ghijkl"]
    assert len(narrowed(many[:10])) == 10
    found = narrowed(many)
    assert len(found) <= learning.MAX_LISTED
    assert "/img/*" in found
    assert narrowed(f"{a}{b}" for a in "abcdefgh" for b in "ijklmnop") == ["*"]
    assert narrowed(["/o/17", "/o/18", "/u/0a1b2c3d-0000-4000-8000-000000000000"]) == ["/o/*", "/u/*"]
    assert narrowed(["public.t2", "v1"]) == ["public.t2", "v1"]  # a digit in a word is no number


def test_max_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MAX_SHAPES", 2)
    proposal, _ = learned(session(*(asked(str(n), effect=["read"], table=[f"s.t{n}"]) for n in "abc")))
    assert proposal.untold == ("more kinds of requests than are kept (1 times)",)


@pytest.mark.parametrize("name", ["*", "a*b", "\x7f", "a\nb: c", "\x1b[2J", "a\u202eb", "\udc80", "\x00", "x" * (learning.MAX_VALUE + 1), ""])
def test_a_name_that_a_vendor_chose_widens_no_rule_and_hides_none(name: str) -> None:
    """`*` in a name that was seen would be any text in a rule; what is odd spoils no more than itself."""
    odd = session(asked("GET", effect=["read"], key=[name]), protocol="redis")
    proposal, policy = learned(odd, session(asked("GET", effect=["read"], key=["plain"]), protocol="redis"))
    assert [rule["when"]["key"] for rule in yaml.safe_load(proposal.rules)["rules"]] == [["plain"]]
    assert len(proposal.untold) == 1
    assert (proposal.rules + proposal.tests).replace("\n", "").isprintable()
    proved(proposal, policy)


def test_stars_in_paths_hosts_and_programs() -> None:
    web: dict[str, object] = {"protocol": "http", "server": Address("10.0.3.9", 443)}
    process = Process(3, 1, "/opt/acme/*", ("x",), "acme.service", 4711)
    for frames in (
        session(asked("GET /api/*\nhost: api.example", effect=["read"]), **web),  # type: ignore[arg-type]
        session(asked("GET /a\nhost: *", effect=["read"]), **web),  # type: ignore[arg-type]
        session(asked("s", effect=["read"], table=["public.t"]), process=process),
    ):
        proposal, _ = learned(frames)
        assert proposal.proposed == 0
        assert "has a `*` in its name" in proposal.untold[0]


def test_letters_of_all_planes_stay_what_they_are() -> None:
    proposal, policy = learned(session(asked("GET", effect=["read"], key=["grün-\U0001f600"]), protocol="redis"))
    assert yaml.safe_load(proposal.rules)["rules"][0]["when"]["key"] == ["grün-\U0001f600"]
    proved(proposal, policy)
    text = proposing.flow({"a": "\x85\u202e\ufeff\x1b'\": #"})
    assert text.isprintable()
    assert yaml.safe_load(text) == {"a": "\x85\u202e\ufeff\x1b'\": #"}


def test_what_many_names_make_wide_is_marked_and_what_would_be_any_is_not_proposed() -> None:
    words = [f"{a}{b}" for a in "abcdefgh" for b in "ijklmnop"]
    marked, policy = learned(session(*(asked("GET", effect=["read"], key=[f"cache:{word}"]) for word in words), protocol="redis"))
    assert "  # WIDE: 64 of `key` are put together, as too many to list; read what it allows\n" in marked.rules
    proved(marked, policy)
    anything, _ = learned(session(*(asked("GET", effect=["read"], key=[word]) for word in words), protocol="redis"))
    assert anything.proposed == 0
    assert "64 of `key` are put together, as too many to list, which would be any: write that rule by hand" in anything.untold[0]


def test_names_of_dns_are_listed_whole_or_not_at_all() -> None:
    """An id before a domain would be a tunnel's bytes: `*.evil.example`, and put together by their beginning, anybody's."""
    dns: dict[str, object] = {"protocol": "dns", "server": Address("10.0.0.53", 53)}
    names = [f"{n:012x}.evil.example" for n in range(learning.MAX_LISTED + 1)]
    few, _ = learned(session(*(asked("q", qname=[name]) for name in names[:3]), **dns))  # type: ignore[arg-type]
    assert [rule["when"] for rule in yaml.safe_load(few.rules)["rules"]] == [{"qname": names[:3]}]
    assert narrowed(names[:3], ids=False) == names[:3]
    assert narrowed(names, ids=False) == ["*"]


def test_max_rules_max_drafts_and_max_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor that does a thousand things cannot hide one among them; what it does most stays."""
    monkeypatch.setattr(learning, "MAX_RULES", 2)
    monkeypatch.setattr(learning, "MAX_DRAFTS", 2)
    monkeypatch.setattr(learning, "MAX_UNTOLD", 2)
    web: dict[str, object] = {"protocol": "http", "server": Address("10.0.3.9", 443)}
    requests = [asked(f"GET /a\nhost: {host}", effect=["read"]) for host in ("x1.evil", "api.example", "x2.evil", "api.example", "cdn.example", "cdn.example")]
    proposal, _ = learned(session(*requests, **web))  # type: ignore[arg-type]
    assert [rule["when"]["host"] for rule in yaml.safe_load(proposal.rules)["rules"]] == [["api.example"], ["cdn.example"]]
    assert "does more than 2 things: the least frequent are left out (2 times)" in proposal.untold[0]
    seen = asked("s", effect=["read"], table=["public.t"])
    places = [session(*[seen] * n, server=Address(f"10.0.4.{n}", 5432)) for n in (1, 2, 3)]
    proposal, _ = learned(*places)
    assert [target["address"] for target in yaml.safe_load(proposal.rules)["targets"].values()] == [["10.0.4.2:5432"], ["10.0.4.3:5432"]]
    assert proposal.untold == ("more than 2 programs and places: the least busy are left out (1 times)",)
    proposal, _ = learned(session(*(asked(f"what {n}") for n in range(9))))
    assert sorted(proposal.untold)[0] == "more kinds of requests than are told (7 times)"


# -- letting by ----------------------------------------------------------------------------------------------------------


def test_who_is_let_by_is_let_by_last_and_for_a_time(tmp_path: Path) -> None:
    rules = 'identities:\n  acme: {cgroup: acme.service}\nrules:\n  - {id: no-drop, who: acme, when: {effect: drop}, do: block}\n'
    (tmp_path / "90.yaml").write_text(rules)
    path = opening.put(tmp_path, "acme", True, time.time() + 60)
    texts = [(file.name, file.read_text()) for file in sorted(tmp_path.glob("*.yaml"))]
    policy = config.rules(texts, lambda name: [])
    assert [rule.id for rule in policy.rules if not rule.shadow] == ["no-drop", opening.RULE]
    assert not opening.end(tmp_path, time.time())
    assert opening.end(tmp_path, time.time() + 61)
    assert not path.exists()
    assert not opening.end(tmp_path, time.time() + 61)
    opening.put(tmp_path, "other.service", False, time.time() + 60)
    assert config.rules([(file.name, file.read_text()) for file in sorted(tmp_path.glob("*.yaml"))], lambda name: []).rules[-1].who == (opening.RULE,)
    with pytest.raises(ConfigError, match="is there already: somebody is learning"):
        opening.put(tmp_path, "x", False, time.time() + 60)


def test_max_s_of_letting_by_and_a_file_that_does_not_say_until_when(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is over 7 days\nhint: open for less"):
        opening.put(tmp_path, "x", False, time.time() + opening.MAX_S + 60)
    pid, started = os.getpid(), opening._started(os.getpid())
    texts = ["rules: []\n", "# until soon\n", "# until 9999\n", f"# until 9999-01-01T00:00:00+00:00, by process {pid} of {started}\n"]
    for text in texts:
        (tmp_path / opening.NAME).write_text(text)
        assert opening.end(tmp_path, time.time())


def test_letting_by_ends_with_its_process(tmp_path: Path) -> None:
    """Whatever ended it: also kill -9, with hours to go; a number that another process has by now is none of its."""
    path = opening.put(tmp_path, "acme.service", False, time.time() + 3600)
    assert not opening.end(tmp_path, time.time())
    text = path.read_text()
    with subprocess.Popen(["sleep", "60"]) as other:
        for by in (f"by process {other.pid} of 1", f"by process {2**22 + 1} of 0"):
            path.write_text(re.sub(r"by process \d+ of \d+", by, text))
            assert opening.end(tmp_path, time.time())
        mine = f"by process {other.pid} of {opening._started(other.pid)}"
        path.write_text(re.sub(r"by process \d+ of \d+", mine, text))
        assert not opening.end(tmp_path, time.time())
        other.kill()
        until(lambda: opening.end(tmp_path, time.time()), 30)


@pytest.mark.parametrize("who", ['x"}\nrules: [{id: all, do: allow}]\n#', "a: b", "é*"])
def test_who_is_let_by_writes_no_rules(who: str, tmp_path: Path) -> None:
    path = opening.put(tmp_path, who, False, time.time() + 60)
    document = yaml.safe_load(path.read_text())
    assert document["identities"] == {opening.RULE: {"cgroup": who}}
    assert len(document["rules"]) == 2


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opening.put(tmp_path / "none", "x", False, time.time() + 60)
    (tmp_path / f".{opening.NAME}.new").mkdir()
    with pytest.raises(IsADirectoryError):
        opening.put(tmp_path, "x", False, time.time() + 60)
    assert not (tmp_path / opening.NAME).exists()


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "say how: --for 1h watches from now on, --since 1d reads what is recorded"),
        (["--for", "1h", "--since", "1d"], 2, "say how:"),
        (["--for", "1h", "--open"], 2, "--open needs --for, and --who to say who is let by"),
        (["--since", "1h", "--open", "--who", "x"], 2, "--open needs --for"),
        (["--since", "1h", "-o", "{rules}/50.yaml"], 2, "is where rules are in force as soon as they are saved\nhint: write it elsewhere"),
        (["--since", "1h", "-o", "x.txt"], 2, "-o x.txt: does not end with .yaml\nhint: -o x.yaml"),
        (["--for", "1s"], 3, "vendorgate is not running: nothing is recorded\nhint: systemctl start vendorgate"),
        (["--since", "1h"], 1, "nothing is recorded here"),
    ],
)
def test_what_is_refused(tmp_path: Path, words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.d").mkdir()
    path = tmp_path / "vendorgate.yaml"
    path.write_text(f"rules: {tmp_path}/rules.d\nstate_dir: {tmp_path}/state\nruntime_dir: {tmp_path}/run\n")
    assert main(["--config", str(path), "learn", *(word.format(rules=tmp_path / "rules.d") for word in words)]) == status
    assert text in capsys.readouterr().err


# -- in a lab ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Postgres]:
    # Not below the folders of pytest, which another one that starts closes to other users.
    with tempfile.TemporaryDirectory(prefix="vendorgate-postgres-") as name:
        Path(name).chmod(0o755)
        with Postgres(Path(name) / "home", 5432, netns=lab.target) as server:
            server.admin("create role acme login superuser password 'secret'; create table orders (id int); create table salaries (id int)")
            yield server


@pytest.mark.kernel
@pytest.mark.peer
def test_from_nothing_to_least_privilege(lab: Lab, server: Postgres, tmp_path: Path) -> None:
    address = f"host={lab.target_ip} dbname=postgres user=acme password=secret sslmode=disable connect_timeout=20"

    def psql(*statements: str) -> "subprocess.CompletedProcess[str]":
        words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address, *(word for text in statements for word in ("-c", text))]
        return lab.run(words, cgroup="acme.service", user="nobody", capture_output=True, text=True, timeout=60)

    work = ("select count(*) from orders", "insert into orders values (1)")
    with Appliance(lab, tmp_path, {"10-none.yaml": "rules: []\n"}) as appliance:
        assert psql(*work).returncode == 2  # nothing is allowed
        output = tmp_path / "proposal.yaml"
        words = appliance._words("learn", "--for", "6s", "--who", "acme.service", "--open", "-o", str(output), "--json")
        learn = lab.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until((appliance.home / "rules.d" / opening.NAME).exists, 30)
        until(lambda: psql(*work).returncode == 0, 30)
        out, error = learn.communicate(timeout=90)
        assert learn.returncode == 0, error
        assert json.loads(out)["proposed"] >= 2, out
        # Nothing is in force: the door is shut again, and the rules are what they were.
        assert [path.name for path in (appliance.home / "rules.d").iterdir()] == ["10-none.yaml"]
        until(lambda: psql(*work).returncode == 2, 30)
        assert appliance.cli("rules", "test", str(output)).stdout.endswith("all as expected\n")
        appliance.rule("50-acme.yaml", output.read_text())
        until(lambda: psql(*work).returncode == 0, 30)
        refused = psql("select * from salaries")
        assert "denied by vendorgate" in refused.stderr
        assert "denied by vendorgate" in psql("drop table orders").stderr


@pytest.mark.kernel
def test_a_learner_that_is_killed_leaves_no_door_open(lab: Lab, tmp_path: Path) -> None:
    with Appliance(lab, tmp_path, {"10-none.yaml": "rules: []\n"}) as appliance:
        path = appliance.home / "rules.d" / opening.NAME
        for number in (signal.SIGHUP, signal.SIGKILL):
            words = appliance._words("learn", "--for", "2h", "--who", "acme.service", "--open")
            learn = lab.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until(path.exists, 30)
            learn.send_signal(number)
            learn.communicate(timeout=60)
            until(lambda: not path.exists(), 30)
        until(lambda: "by no more: its time is up" in appliance.log.read_text(), 30)
