"""Tests of rules, beside them in `*.test.yaml`: what should be judged how, run on the real engine.

    tests:
      - name: drop is refused             # optional, as are all but the message and `expect`
        identity: acme                    # or process: {cgroup:, exe:, uid:, package:, script:, parents: []}
        target: orders-db                 # or protocol: postgres, at no target
        before: [set search_path to x]    # statements sent earlier in the session
        statement: drop table orders      # or request: {effect: drop, unknown: [table]}
        row: {public.users.ssn: 123-45-6789, note: hello}   # a result; a bare name: of unknown origin
        expect: block                     # allow, block, approve; mask: allowed, and something is masked
        rule: no-destructive              # which rule decides, or masks
        shows: {public.users.ssn: "*******6789"}            # what the client sees of `row`; null for NULL

Not handled: what a server would answer. Names that only a catalogue could tell are unknown.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from appliance.config import document
from appliance.config.document import Node
from appliance.config.rules import TESTS
from appliance.facts import Facts, Reader
from appliance.facts.words import PROTOCOLS
from appliance.model import Address, Column, ConfigError, Decision, Message, Place, Process, Side
from appliance.policy import MaskPlan, Policy
from appliance.policy.rule import TRANSPORTS

NOWHERE = Address("192.0.2.1", 5432)  # RFC 5737: an address for documentation
FIELDS = (
    "name", "identity", "process", "target", "protocol", "before", "statement", "request", "row", "expect",
    "rule", "shows",
)  # fmt: skip
TEXTS = ("cgroup", "exe", "package", "sha256", "script", "script_sha256", "unit", "container")  # of a process
VERDICTS = ("allow", "block", "approve", "mask")
MAX_TESTS = 10_000  # of all files

MakeReader = Callable[[str], Reader]


class Case(msgspec.Struct, frozen=True):
    """One test as written."""

    name: str
    where: str
    expect: str
    who: tuple[str, ...] | Process
    target: str = ""
    protocol: str = ""
    before: tuple[str, ...] = ()
    statement: str = ""
    request: Mapping[str, tuple[str, ...]] | None = None
    row: Mapping[str, str | None] = {}
    shows: Mapping[str, str | None] = {}
    rule: str = ""


class Result(msgspec.Struct, frozen=True):
    """One test as it went. `why` says what differs; empty when it went well."""

    name: str
    where: str
    expected: str
    actual: str
    rule: str  # that decided
    reason: str
    why: str = ""

    @property
    def ok(self) -> bool:
        return not self.why


def run(policy: Policy, files: Sequence[tuple[str, str]], make_reader: MakeReader) -> tuple[Result, ...]:
    """Run the tests of the `*.test.yaml` among `files` (name, text); other files are left out.

    `make_reader` opens a reader of facts for a protocol.

    Raises:
        ConfigError: a test file is wrong.
    """
    read = sorted((name, text) for name, text in files if name.endswith(TESTS))
    cases = [case for name, text in read for case in _cases(policy, name, text)]
    if len(cases) > MAX_TESTS:
        raise ConfigError(cases[MAX_TESTS].where, f"more than {MAX_TESTS} tests", "run the files apart")
    return tuple(_run(policy, case, make_reader) for case in cases)


def _cases(policy: Policy, file: str, text: str) -> list[Case]:
    tops = document.mapping(document.parse(file, text), "test file", ("tests",))
    nodes = document.sequence(tops["tests"], "tests") if "tests" in tops else ()
    return [_case(policy, node, place) for place, node in enumerate(nodes, 1)]


def _case(policy: Policy, node: Node, place: int) -> Case:
    called = f"test {place}"
    fields = document.mapping(node, called, FIELDS)
    name = document.string(fields["name"], called) if "name" in fields else ""
    called = f"test {name or place}"
    for one, other in (("identity", "process"), ("target", "protocol"), ("statement", "request")):
        if one in fields and other in fields:
            fields[other].fail(f"{called}: both `{one}` and `{other}`", "write one of them")
    if "statement" not in fields and "request" not in fields:
        node.fail(f"{called}: has no message to judge", "write statement: or request:")
    if "expect" not in fields:
        node.fail(f"{called}: has no `expect`", "write expect: allow, block, approve or mask")
    targets = {t.name: t.protocol for t in policy.targets}
    target = _known(fields, called, "target", tuple(targets))
    protocol = _known(fields, called, "protocol", tuple(PROTOCOLS)) or targets.get(target, "")
    return Case(
        name=name or (fields["statement"].text or "" if "statement" in fields else called)[:60],
        where=node.where,
        expect=document.choice(fields["expect"], f"{called}: expect", VERDICTS),
        who=_who(policy, fields, called),
        target=target,
        protocol=protocol or "postgres",
        before=document.strings(fields["before"], f"{called}: before") if "before" in fields else (),
        statement=document.string(fields["statement"], called) if "statement" in fields else "",
        request=_request(fields["request"], called, protocol) if "request" in fields else None,
        row=_values(fields, called, "row"),
        shows=_values(fields, called, "shows"),
        rule=_known(fields, called, "rule", (*(r.id for r in policy.rules), "default")),
    )


def _known(fields: dict[str, Node], called: str, key: str, known: tuple[str, ...]) -> str:
    if key not in fields:
        return ""
    text = document.string(fields[key], f"{called}: {key}")
    if text not in known:
        fields[key].fail(f"{called}: unknown {key} `{text}`", document.did_you_mean(text, known))
    return text


def _who(policy: Policy, fields: dict[str, Node], called: str) -> tuple[str, ...] | Process:
    if "identity" in fields:
        return (_known(fields, called, "identity", tuple(i.name for i in policy.identities)),)
    if "process" not in fields:
        return ()
    what = f"{called}: process"
    said = document.mapping(fields["process"], what, (*TEXTS, "uid", "parents"))
    text = {key: document.string(said[key], what) if key in said else "" for key in TEXTS}
    return Process(
        pid=1,
        started_ns=1,
        exe=text["exe"],
        argv=(),
        cgroup=text["cgroup"],
        uid=document.whole(said["uid"], f"{what}.uid", 0, 2**32 - 2) if "uid" in said else 0,
        package=text["package"],
        parents=document.strings(said["parents"], what) if "parents" in said else (),
        sha256=text["sha256"],
        script=text["script"],
        script_sha256=text["script_sha256"],
        unit=text["unit"],
        container=text["container"],
    )


def _request(node: Node, called: str, protocol: str) -> dict[str, tuple[str, ...]]:
    keys = (*PROTOCOLS[protocol or "postgres"], "text", "unknown")
    fields = document.mapping(node, f"{called}: request", keys)
    return {key: document.strings(value, f"{called}: {key}") for key, value in fields.items()}


def _values(fields: dict[str, Node], called: str, key: str) -> dict[str, str | None]:
    found = document.mapping(fields[key], f"{called}: {key}") if key in fields else {}
    for node in found.values():
        if node.text is None:
            node.fail(f"{called}: {key}: expected one value", "write `column: value`")
    return {name: None if node.empty and node.text else node.text for name, node in found.items()}


def _run(policy: Policy, case: Case, make_reader: MakeReader) -> Result:
    who = policy.identify(case.who) if isinstance(case.who, Process) else case.who
    server = _server(policy, case)
    facts = _facts(case, make_reader)
    decision = policy.decide(who, server, facts)
    plan = policy.masks(who, server).plan(facts, _origin)
    seen = _seen(plan, case.row)
    masked = plan.hits if case.row else policy.masks(who, server).touches(facts)
    actual = "mask" if decision.verdict == "allow" and masked else decision.verdict
    return Result(
        name=case.name,
        where=case.where,
        expected=case.expect,
        actual=actual,
        rule=decision.rule,
        reason=decision.reason,
        why=_differs(case, actual, decision, plan, seen),
    )


def _server(policy: Policy, case: Case) -> Place:
    target = next((t for t in policy.targets if t.name == case.target), None)
    transport = TRANSPORTS.get(case.protocol, ("tcp",))[0]
    if target is None:
        return Place(NOWHERE.host, NOWHERE.port, transport)
    net = target.nets[0]
    found = Address.of(str(net.network.network_address), net.low or NOWHERE.port)
    return Place(found.host, found.port, transport)


def _facts(case: Case, make_reader: MakeReader) -> Facts:
    if case.request is not None:
        values = {key: frozenset(texts) for key, texts in case.request.items() if key != "unknown"}
        return Facts(case.protocol, values, frozenset(case.request.get("unknown", ())), "the test says so")
    reader = make_reader(case.protocol)
    for text in case.before:
        earlier = Message(Side.CLIENT, "query", b"", text=text)
        reader.ask(earlier)
        reader.sent(earlier)
    facts = reader.ask(Message(Side.CLIENT, "query", b"", text=case.statement))
    if facts is None:
        raise ConfigError(case.where, f"test {case.name}: the statement asks for nothing", "write another")
    return facts


def _origin(column: Column) -> frozenset[str] | None:
    """Columns of a row carry their origin as their name."""
    return frozenset((column.name,)) if "." in column.name else None


def _seen(plan: MaskPlan, row: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the row as the client sees it."""
    cells = plan(tuple(Column(name) for name in row)) or [None] * len(row)
    return {
        name: text if cell is None or text is None else cell(text)
        for (name, text), cell in zip(row.items(), cells, strict=True)
    }


def _differs(
    case: Case, actual: str, decision: Decision, plan: MaskPlan, seen: Mapping[str, str | None]
) -> str:
    if actual != case.expect:
        return f"expected {case.expect}, got {actual} by {decision.rule}: {decision.reason}"
    if case.rule and case.rule != decision.rule and case.rule not in plan.rules:
        return f"expected rule {case.rule}, got {decision.rule}"
    for name, text in case.shows.items():
        if seen.get(name) != text:
            return f"expected {name} to show {text!r}, got {seen.get(name)!r}"
    return ""
