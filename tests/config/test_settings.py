"""vendorgate.yaml: every default, every key, every refusal."""

from pathlib import Path

import pytest

from appliance.config import Approvals, Record, Relay, Settings, settings
from appliance.config.document import MAX_DEPTH, MAX_DURATION_S, MAX_FILE, MAX_NODES, MAX_SIZE
from appliance.config.settings import MAX_DRAIN_S, MAX_NAMES, MAX_PENDING, MAX_UNIX, MAX_WORKERS, Authority
from appliance.model import ConfigError

DESIGN = """
slice: vendor.slice              # permanent parent cgroup that is governed
cgroup_root: /sys/fs/cgroup      # where cgroup2 is mounted
rules: /etc/vendorgate/rules.d
state_dir: /var/lib/vendorgate   # records, index, keys
runtime_dir: /run/vendorgate     # control.sock
relay: {port: 15001, workers: auto}
record: {level: full, retention: 30d, max_bytes: 20GiB}   # full | requests | metadata
on_failure: closed               # closed | open
existing_connections: drop       # drop | keep, for sockets opened before start
"""


def test_defaults_by_name() -> None:
    assert settings("v.yaml", "") == Settings(
        slice="vendor.slice",
        cgroup_root=Path("/sys/fs/cgroup"),
        rules=Path("/etc/vendorgate/rules.d"),
        state_dir=Path("/var/lib/vendorgate"),
        runtime_dir=Path("/run/vendorgate"),
        relay=Relay(port=15001, workers=0, user="vendorgate", drain_s=5.0),
        record=Record(level="full", retention_s=2_592_000, max_bytes=21_474_836_480, required=True),
        approvals=Approvals(max_pending=1000, max_pending_per_process=20),
        authority=Authority(names=()),
        on_failure="closed",
        existing_connections="drop",
        unix=("/dev/log", "/run/systemd/journal/dev-log", "/run/systemd/journal/socket", "/run/systemd/journal/stdout"),
    )


def test_the_example_of_the_design_is_the_default() -> None:
    assert settings("v.yaml", DESIGN) == Settings()


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "~", "{}", "relay:\n", "relay: ~"])
def test_nothing_written_is_the_default(text: str) -> None:
    assert settings("v.yaml", text) == Settings()


def test_every_key() -> None:
    got = settings(
        "v.yaml",
        "slice: a.slice/b.slice\ncgroup_root: /c\nrules: /r\nstate_dir: /s\nruntime_dir: /n\n"
        "relay: {port: 1, workers: 3, user: gate, drain: 2m}\n"
        "record: {level: metadata, retention: 12h, max_bytes: 1048576, required: false}\n"
        "approvals: {max_pending: 5, max_pending_per_process: 2}\n"
        "authority: {names: [Corp.example, 10.0.0.0/8]}\n"
        "on_failure: open\nexisting_connections: keep\nunix: [/run/a.sock, /srv/acme/, '@b']\n",
    )
    assert got == Settings(
        slice="a.slice/b.slice",
        cgroup_root=Path("/c"),
        rules=Path("/r"),
        state_dir=Path("/s"),
        runtime_dir=Path("/n"),
        relay=Relay(1, 3, "gate", 120),
        record=Record("metadata", 43200, 1 << 20, False),
        approvals=Approvals(5, 2),
        authority=Authority(("corp.example", "10.0.0.0/8")),
        on_failure="open",
        existing_connections="keep",
        unix=("/run/a.sock", "/srv/acme/", "@b"),
    )


def test_unix_any_and_none() -> None:
    assert settings("v.yaml", "unix: any").unix is None
    assert settings("v.yaml", "unix: []").unix == ()
    assert settings("v.yaml", f"unix: [/{'a' * (MAX_UNIX - 1)}]").unix
    with pytest.raises(ConfigError, match="names no unix socket"):
        settings("v.yaml", f"unix: [/{'a' * MAX_UNIX}]")


def test_limit_max_names() -> None:
    names = [f"n{i}.example" for i in range(MAX_NAMES + 1)]
    assert len(settings("v.yaml", f"authority: {{names: [{', '.join(names[1:])}]}}").authority.names) == MAX_NAMES
    with pytest.raises(ConfigError, match="101 names"):
        settings("v.yaml", f"authority: {{names: [{', '.join(names)}]}}")


SIZES = [("1", 1), ("500MB", 500_000_000), ("20GiB", 20 << 30), ("1 TiB", 1 << 40), ("10kB", 10_000), ("7B", 7)]


@pytest.mark.parametrize(("text", "bytes_"), SIZES)
def test_sizes(text: str, bytes_: int) -> None:
    assert settings("v.yaml", f"record: {{max_bytes: {text}}}").record.max_bytes == bytes_


DURATIONS = [("90s", 90), ("10m", 600), ("12h", 43_200), ("30d", 2_592_000)]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: float) -> None:
    assert settings("v.yaml", f"record: {{retention: {text}}}").record.retention_s == seconds


REFUSED = [
    ("slce: x", "v.yaml:1: settings: unknown field `slce`\nhint: did you mean `slice`?"),
    ("slice: /a", "v.yaml:1: slice: `/a` is not a path below cgroup_root\nhint: write it as in vendor.slice"),
    ("slice: a/../b", "v.yaml:1: slice: `a/../b` is not a path below cgroup_root\nhint: write it as in vendor.slice"),
    ("slice: ''", "v.yaml:1: slice: is empty\nhint: write a value, or leave the field out"),
    ("rules: etc", "v.yaml:1: rules: `etc` is not an absolute path\nhint: begin it with /"),
    ("\nrelay: {port: 0}", "v.yaml:2: relay.port: `0` is not a whole number in range\nhint: write one from 1 to 65535"),
    ("relay: {port: 65536}", "v.yaml:1: relay.port: `65536` is not a whole number in range\nhint: write one from 1 to 65535"),
    ("relay: {port: 0x10}", "v.yaml:1: relay.port: `0x10` is not a whole number in range\nhint: write one from 1 to 65535"),
    ("relay: {port: 1e3}", "v.yaml:1: relay.port: `1e3` is not a whole number in range\nhint: write one from 1 to 65535"),
    ("relay: {port: [1]}", "v.yaml:1: relay.port: expected one value\nhint: write neither a list nor a mapping"),
    ("relay: {workers: many}", f"v.yaml:1: relay.workers: `many` is not a whole number in range\nhint: write one from 1 to {MAX_WORKERS}"),
    ("relay: {user: 'a:b'}", "v.yaml:1: relay.user: `a:b` is not a user's name"),
    ("relay: 15001", "v.yaml:1: relay: expected a mapping\nhint: write `key: value`"),
    ("record: {level: ful}", "v.yaml:1: record.level: unknown value `ful`\nhint: did you mean `full`?"),
    ("record: {required: yes}", "v.yaml:1: record.required: `yes` is not true or false\nhint: write true or false"),
    ("record: {retention: 30}", "v.yaml:1: record.retention: `30` is not a duration above zero\nhint: write a number and s, m, h or d, as in 10m"),
    ("record: {retention: 0d}", "v.yaml:1: record.retention: `0d` is not a duration above zero\nhint: write a number and s, m, h or d, as in 10m"),
    ("record: {retention: 9999999999999d}", "v.yaml:1: record.retention: `9999999999999d` is over a hundred years\nhint: write 36500d or less"),
    ("record: {retention: -1d}", "v.yaml:1: record.retention: `-1d` is not a duration above zero\nhint: write a number and s, m, h or d, as in 10m"),
    ("record: {retention: nan}", "v.yaml:1: record.retention: `nan` is not a duration above zero\nhint: write a number and s, m, h or d, as in 10m"),
    ("record: {retention: 1e9d}", "v.yaml:1: record.retention: `1e9d` is not a duration above zero\nhint: write a number and s, m, h or d, as in 10m"),
    ("\nrelay: {port: --5}", "v.yaml:2: relay.port: `--5` is not a whole number in range\nhint: write one from 1 to 65535"),
    ("record: {max_bytes: 999999999999999TiB}", "v.yaml:1: record.max_bytes: `999999999999999TiB` is more than a file system holds\nhint: write 1048576TiB or less"),
    ("record: {max_bytes: 20Gib}", "v.yaml:1: record.max_bytes: `20Gib` is not a size above zero\nhint: write a number and a unit, as in 20GiB"),
    ("approvals: {max_pending: 0}", f"v.yaml:1: approvals.max_pending: `0` is not a whole number in range\nhint: write one from 1 to {MAX_PENDING}"),
    ("authority: {names: []}", f"v.yaml:1: authority.names: 0 names\nhint: 1 to {MAX_NAMES}; leave it out for every name"),
    ("authority: {names: [a..b]}", "v.yaml:1: authority.names: `a..b` is neither a name nor a network\nhint: write it as in example.com or 10.0.0.0/8"),
    ("on_failure: opne", "v.yaml:1: on_failure: unknown value `opne`\nhint: did you mean `open`?"),
    ("existing_connections: x", "v.yaml:1: existing_connections: unknown value `x`\nhint: known: drop, keep"),
    ("unix: [x]", "v.yaml:1: unix: `x` names no unix socket\nhint: a path, a directory with / at its end, or @name"),
    ("unix: [/a/../b]", "v.yaml:1: unix: `/a/../b` names no unix socket\nhint: a path, a directory with / at its end, or @name"),
    ("unix: none", "v.yaml:1: unix: expected a list\nhint: write `- ` before each entry"),
    ("- a", "v.yaml:1: settings: expected a mapping\nhint: write `key: value`"),
    ("slice: a\nslice: b", "v.yaml:2: `slice` is written twice\nhint: the first is at line 1"),
    ("{a: b", "v.yaml:1: not YAML: did not find expected ',' or '}'\nhint: check indent, brackets and quotes"),
    ("? [a]\n: b", "v.yaml:1: a key that is not a word\nhint: write `key: value`"),
    ("a: !!str b", "v.yaml:1: tags are not taken, as `tag:yaml.org,2002:str`\nhint: write the value without a tag"),
    ("a: !!python/object:os.system x", "v.yaml:1: tags are not taken, as `tag:yaml.org,2002:python/object:os.system`\nhint: write the value without a tag"),
    ("a: &x [*x]", "v.yaml:1: alias `*x` stands for nothing yet\nhint: write `&x` before the value above"),
    ("--- {}\n--- {}", "v.yaml:2: a second document in one file\nhint: put it into a file of its own"),
    ("\x00", "v.yaml:1: not YAML: a character that may not be there\nhint: save as UTF-8 text"),
    ("\ud800", "v.yaml:1: not YAML: a character that may not be there\nhint: save as UTF-8 text"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error"), REFUSED)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings("v.yaml", text)
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["[" * 900_000, "- " * 400_000, "{a: " * 200_000, "a:\n" + "".join(" " * i + "a:\n" for i in range(1, 500))])
def test_limit_max_depth(text: str) -> None:
    with pytest.raises(ConfigError, match=f"nested deeper than {MAX_DEPTH}"):
        settings("v.yaml", text)


def test_limits_max_duration_and_max_size() -> None:
    """What they let through fits what counts with it: timers in milliseconds of 64 bits, whole numbers of SQLite."""
    record = settings("v.yaml", "record: {retention: 36500d, max_bytes: 1048576TiB}").record
    assert (record.retention_s, record.max_bytes) == (MAX_DURATION_S, MAX_SIZE)
    assert (MAX_DURATION_S, MAX_SIZE) == (36_500 * 86_400, 1 << 60)
    for text in (f"retention: {MAX_DURATION_S + 1}s", f"max_bytes: {MAX_SIZE + 1}"):
        with pytest.raises(ConfigError, match=r"over a hundred years|more than a file system"):
            settings("v.yaml", f"record: {{{text}}}")


def test_limit_max_file() -> None:
    assert settings("v.yaml", "#" + "x" * (MAX_FILE - 1)) == Settings()
    with pytest.raises(ConfigError, match=f"longer than {MAX_FILE}"):
        settings("v.yaml", "#" + "x" * MAX_FILE)


def test_limit_max_nodes() -> None:
    """A billion laughs: aliases count as what they stand for."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} values"):
        settings("v.yaml", laughs)


def test_an_alias_is_what_it_stands_for() -> None:
    got = settings("v.yaml", "state_dir: &d /x\nruntime_dir: *d\n")
    assert (got.state_dir, got.runtime_dir) == (Path("/x"), Path("/x"))


def test_max_drain_s_and_what_is_no_time() -> None:
    assert settings("v.yaml", "relay: {drain: 10m}").relay.drain_s == MAX_DRAIN_S
    with pytest.raises(ConfigError, match=r"relay\.drain: `11m` is over 600 s\nhint: write 5s"):
        settings("v.yaml", "relay: {drain: 11m}")
    with pytest.raises(ConfigError, match=r"relay\.drain"):
        settings("v.yaml", "relay: {drain: soon}")
