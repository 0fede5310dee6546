"""A first file of rules for one agent, put together from the packs that ship: commented, and with the packs' tests.

A pack is PROTOCOL-PURPOSE.yaml with its tests beside it. Its rules are taken with `who` and `to` of the agent, under
ids of its own, so that the file stands alone and may be edited.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from appliance.config.document import did_you_mean
from appliance.facts.words import PROTOCOLS
from appliance.model import ConfigError, HostError
from appliance.service.proposing import flow
from appliance.service.rulebook import TESTS

PACKS = (Path(__file__).parents[2] / "rules", Path("/usr/share/vendorgate/rules"))
MASKS = "pii"
WHOLE = ("no-egress", "http-metadata")  # packs that speak of places for everybody
PURPOSES = {
    "read-only": "reading, and nothing else",
    "hygiene": "ordinary work; what cannot be undone waits for a reviewer, what leaves the server is refused",
    "nothing": "nothing so far: `vendorgate learn` finds out what it needs",
}
PLACE = re.compile(r"(?:(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)=)?(?P<protocol>[a-z0-9]+):(?P<address>[^=]+)")
WIDTH = 118  # columns of a rule on one line


class Server(msgspec.Struct, frozen=True):
    """A place the agent may speak to."""

    name: str
    protocol: str
    address: str


class Wishes(msgspec.Struct, frozen=True):
    """What was answered."""

    name: str  # of the identity
    cgroup: str
    servers: tuple[Server, ...]
    may: str  # of PURPOSES
    group: str = "ops"  # of reviewers
    mask: bool = True


class Starter(msgspec.Struct, frozen=True):
    """Two files."""

    rules: str
    tests: str


def server(text: str) -> Server:
    """Return what `orders-db=postgres:10.0.3.2:5432` says; without a name it is called by protocol and host.

    Raises:
        ConfigError: it says nothing of the kind.
    """
    found = PLACE.fullmatch(text)
    if not found:
        raise ConfigError(text, "is no server", "write protocol:address:port, as in postgres:db.internal:5432")
    protocol, address = found["protocol"], found["address"]
    if protocol not in PROTOCOLS:
        raise ConfigError(text, f"protocol `{protocol}` is not known", did_you_mean(protocol, tuple(PROTOCOLS)))
    host = address.rpartition(":")[0].strip("[]") if ":" in address else address
    name = found["name"] or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{protocol}-{host}").strip("-.")[:60]
    return Server(name, protocol, address)


def directory() -> Path:
    """Return where the packs are.

    Raises:
        HostError: nowhere.
    """
    for place in PACKS:
        if place.is_dir():
            return place
    raise HostError(f"no packs of rules in {PACKS[0]} nor {PACKS[1]}", "install the package vendorgate again")


def starter(wishes: Wishes) -> Starter:
    """Return the rules and their tests.

    Raises:
        ConfigError: there is no pack for what is wished.
    """
    rules, tests = [*_head(wishes)], ["# Tests of the rules beside: `vendorgate rules test`.", "tests:"]
    for protocol in dict.fromkeys(one.protocol for one in wishes.servers):
        places = [one.name for one in wishes.servers if one.protocol == protocol]
        purposes = [] if wishes.may == "nothing" else [wishes.may, *([MASKS] if wishes.mask else [])]
        for purpose in purposes:
            pack = directory() / f"{protocol}-{purpose}.yaml"
            if not pack.exists():
                if purpose == MASKS:
                    continue
                known = sorted(path.stem for path in directory().glob(f"{protocol}-*.yaml") if TESTS not in path.name)
                hint = f"there are {', '.join(known)}" if known else "--may nothing, and write rules of your own"
                raise ConfigError(f"{protocol}-{purpose}", f"no pack of rules for {protocol} does that", hint)
            rules += ["", *_rules(pack, wishes, places)]
            tests += _tests(pack, wishes, places[0])
    if wishes.may == "nothing":
        rules += ["  []"]
    return Starter("\n".join([*rules, ""]), "\n".join([*tests, ""]) if len(tests) > 2 else "tests: []\n")


def _head(wishes: Wishes) -> Iterator[str]:
    yield from (
        f"# Rules for {wishes.name}, begun by `vendorgate init`. Yours to edit: saved is in force.",
        "#",
        "#   vendorgate rules check               whether they can be read",
        "#   vendorgate rules test                their tests, in the file beside",
        "#   vendorgate rules explain --who " + wishes.name + ' "..."   what becomes of a statement, and why',
        "#",
        "# block, approve and allow decide, the first that matches; masks all apply. What no rule allows is blocked.",
        f"# {wishes.name} may do: {PURPOSES[wishes.may]}.",
        "",
        "# Who: by the kernel's word. Narrow it by exe, script, uid, package or sha256 (all keys must match).",
        "identities:",
        f"  {wishes.name}: {{cgroup: {flow(wishes.cgroup)}}}",
        "",
        "# Where to. A name is looked up again every minute.",
    )
    if wishes.servers:
        yield "targets:"
    for one in wishes.servers:
        yield f"  {one.name}: {{protocol: {one.protocol}, address: [{flow(one.address)}]}}"
    yield from ("", "rules:")


def _rules(pack: Path, wishes: Wishes, places: Sequence[str]) -> Iterator[str]:
    """Yield the rules of a pack, of this agent at these places."""
    text = pack.read_text()
    yield f"  # From the pack {pack.stem}: {text.splitlines()[0].lstrip('# ')}"
    for rule in yaml.safe_load(text)["rules"]:
        told: dict[str, Any] = {"id": _id(wishes, rule["id"]), "who": wishes.name}
        told["to"] = places[0] if len(places) == 1 else list(places)
        told |= {key: value for key, value in rule.items() if key not in ("id", "who", "to")}
        if "approvers" in told:
            told["approvers"] = {**told["approvers"], "group": wishes.group}
        lines = [f"{key}: {flow(value)}" for key, value in told.items()]
        short = "  - {" + ", ".join(lines) + "}"
        yield from [short] if len(short) <= WIDTH else [f"  - {lines[0]}", *(f"    {line}" for line in lines[1:])]


def _tests(pack: Path, wishes: Wishes, place: str) -> Iterator[str]:
    path = pack.with_name(pack.stem + TESTS)
    found = yaml.safe_load(path.read_text())["tests"] if path.exists() else ()
    for test in found:
        told = {"identity": wishes.name, "target": place}
        told |= {key: value for key, value in test.items() if key not in ("protocol", "identity", "target")}
        if told.get("rule", "default") != "default":
            told["rule"] = _id(wishes, told["rule"])
        yield f"  - {flow(told)}"


def _id(wishes: Wishes, id: str) -> str:
    return f"{wishes.name}-{id}"[:64]
