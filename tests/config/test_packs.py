"""The shipped rule packs: read, and do what their own examples say, on the real reader of facts."""

from pathlib import Path

import pytest

from appliance.config import rules, run
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.policy import entries

RULES = Path(__file__).parents[2] / "rules"
ALONE = [
    "http-hygiene", "http-packages", "http-read-only", "mysql-hygiene", "mysql-read-only", "postgres-hygiene", "postgres-read-only", "redis-hygiene", "redis-read-only",
]  # fmt: skip


def pack(*names: str) -> list[tuple[str, str]]:
    paths = [RULES / f"{name}{end}" for name in names for end in (".yaml", ".test.yaml")]
    return [(path.name, path.read_text()) for path in paths]


def no_names(host: str) -> list[str]:
    raise OSError("packs name no hosts")


def check(files: list[tuple[str, str]], tests: str) -> None:
    policy = rules(files, no_names)
    shared = Shared()
    asked = [f for f in files if f[0] == f"{tests}.test.yaml"]
    found = run(policy, asked, lambda protocol: open_reader(protocol, shared))
    assert [f"{r.where} {r.name}: {r.why}" for r in found if not r.ok] == []
    assert {r.expected for r in found} & {"block", "approve", "mask"}
    assert "allow" in {r.expected for r in found}


@pytest.mark.parametrize("name", ALONE)
def test_pack(name: str) -> None:
    check(pack(name), name)


@pytest.mark.parametrize("beside", [name for name in ALONE if name != "http-packages"])
def test_pii_pack_beside_one_that_allows(beside: str) -> None:
    pii = f"{beside.partition('-')[0]}-pii"
    check(pack(pii, beside), pii)


@pytest.mark.parametrize("beside", ["http-hygiene", "http-read-only"])
def test_metadata_pack_beside_one_that_allows(beside: str) -> None:
    files = [(f"00-{name}" if name.startswith("http-metadata") else name, text) for name, text in pack("http-metadata", beside)]
    check(files, "00-http-metadata")  # rules that block come before those that allow


@pytest.mark.parametrize("beside", ["http-hygiene", "http-read-only"])
def test_no_egress_pack_beside_one_that_allows(beside: str) -> None:
    files = [(f"00-{name}" if name.startswith("no-egress") else name, text) for name, text in pack("no-egress", beside)]
    check(files, "00-no-egress")
    denied = [entry for entry in entries(rules(files, no_names)) if entry.verdict == "deny"]
    assert ("0.0.0.0/0", 25, 25) in {(entry.network, entry.low, entry.high) for entry in denied}  # in the kernel, at once


def test_every_pack_is_tried_here() -> None:
    assert {p.name.split(".")[0] for p in RULES.glob("*.yaml")} == {*ALONE, "no-egress", "dns", "http-metadata", "http-pii", "mysql-pii", "postgres-pii", "redis-pii", "udp"}
