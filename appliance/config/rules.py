"""Rules files -> Policy. All files are read as one, in the order of their names."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, cast

from appliance.config import conditions, document, places, replies
from appliance.config.document import Node, did_you_mean
from appliance.config.packets import refuse_lengths
from appliance.config.useless import refuse_useless
from appliance.facts.words import CELLS
from appliance.model import Approval
from appliance.policy import Policy
from appliance.policy.detect import BadPattern, check_pattern
from appliance.policy.finders import BUILT_IN
from appliance.policy.rule import Do, Identity, Method, MethodName, Rule, Target

TOP = ("identities", "targets", "patterns", "rules", "default")
FIELDS = ("id", "who", "to", "when", "do", "with", "compare", "approvers", "reason", "shadow", "inspect",
          "record", "keep", "on_incident", "reply")  # fmt: skip
MEANT = {"action": "do", "verdict": "do", "name": "id", "identity": "who", "target": "to", "match": "when",
         "method": "with", "message": "reason"}  # fmt: skip
ONLY = {"with": "mask", "compare": "mask", "approvers": "approve", "inspect": "allow", "reply": "block"}
MAX_RULES = 10_000  # ten times what DESIGN promises a reload of in 0.2 s
MAX_PATTERNS = 200  # operators' patterns; each is compiled
MAX_REASON = 500  # characters; it goes into every record of a decision
MAX_APPROVERS = 100
LEVELS = ("full", "requests", "metadata")
METHODS = ("redact", "keep-last-4", "hash", "null")
TESTS = ".test.yaml"


class _Reading:
    """What the files hold, in the order read. Names first, so that rules of any file may use them."""

    def __init__(self, resolve: places.Resolve) -> None:
        self.identities: dict[str, Identity] = {}
        self.targets: dict[str, Target] = {}
        self.patterns: dict[str, str] = {}
        self.rules: dict[str, Rule] = {}
        self.default: Node | None = None
        self._defined: dict[tuple[str, str], Node] = {}
        self._resolved: dict[str, Sequence[str]] = {}
        self._resolve = resolve

    def resolve(self, host: str) -> Sequence[str]:
        """Ask once for each name."""
        if host not in self._resolved:
            self._resolved[host] = self._resolve(host)
        return self._resolved[host]

    def names(self, tops: dict[str, Node]) -> None:
        for key, node in _pairs(tops, "identities"):
            self._once("identity", key)
            self.identities[str(key.text)] = places.identity(key, node)
        for key, node in _pairs(tops, "targets"):
            self._once("target", key)
            self.targets[str(key.text)] = places.target(key, node, self.resolve)
        for key, node in _pairs(tops, "patterns"):
            self._once("pattern", key)
            self.patterns[places.name(key, "patterns")] = self._pattern(key, node)
        if "default" in tops:
            if self.default is not None:
                tops["default"].fail("`default` is written twice", f"the first is at {self.default.where}")
            document.choice(tops["default"], "default", ("block", "allow"))
            self.default = tops["default"]

    def _pattern(self, key: Node, node: Node) -> str:
        text = document.string(node, f"pattern {key.text}")
        if key.text in BUILT_IN:
            key.fail(f"pattern {key.text}: a detector of this name is built in", "choose another name")
        if len(self.patterns) >= MAX_PATTERNS:
            key.fail(f"more than {MAX_PATTERNS} patterns", "join some with `|`")
        try:
            check_pattern(text)
        except BadPattern as e:
            node.fail(f"pattern {key.text}: {e}", "write an expression RE2 would take")
        return text

    def _once(self, kind: str, key: Node) -> None:
        first = self._defined.setdefault((kind, str(key.text)), key)
        if first is not key:
            key.fail(f"{kind} `{key.text}` is defined twice", f"the first is at {first.where}")

    def rule(self, node: Node, place: int) -> Rule:
        called = f"rule {place}"
        if node.fields is None:
            node.fail(f"{called}: expected a mapping", "write id:, do: and what it is about")
        fields = document.mapping(node, called)
        if "id" not in fields:
            node.fail(f"{called}: has no id", "every decision names its rule: write id: a-name")
        id_ = places.name(fields["id"], called)
        called = f"rule {id_}"
        fields = document.mapping(node, called, FIELDS, MEANT)
        if id_ == "default":
            fields["id"].fail(f"{called}: `default` is the name for no rule", "choose another id")
        self._once("rule", fields["id"])
        do = self._do(node, fields, called)
        to = self._to(fields, called)
        rule = Rule(
            id=id_,
            do=do,
            who=self._who(fields, called),
            to=to,
            when=conditions.when(fields["when"], called, to) if "when" in fields else {},
            detect=conditions.detect(fields["when"], called, do, self.patterns) if "when" in fields else (),
            reason=self._reason(fields, called),
            file=node.file,
            line=fields["id"].line,
            shadow="shadow" in fields and document.flag(fields["shadow"], f"{called}: shadow"),
            inspect="inspect" not in fields or document.flag(fields["inspect"], f"{called}: inspect"),
            approval=_approval(node, fields, called) if do == "approve" else None,
            method=_method(fields, called) if do == "mask" else None,
            record=document.choice(fields["record"], f"{called}: record", LEVELS) if "record" in fields else "",
            keep_s=document.duration(fields["keep"], f"{called}: keep") if "keep" in fields else 0.0,
            on_incident=_on_incident(fields, called),
            reply=replies.reply(fields, called),
            compare="compare" in fields
            and document.choice(fields["compare"], f"{called}: compare", ("allow", "block")) == "allow",
        )
        _fits_together(node, fields, rule, called)
        replies.check(fields, rule, called)
        return rule

    def _do(self, node: Node, fields: dict[str, Node], called: str) -> Do:
        if "do" not in fields:
            node.fail(f"{called}: has no `do`", "write do: allow, block, approve or mask")
        do = document.choice(fields["do"], f"{called}: do", ("allow", "block", "approve", "mask"))
        for key, only in ONLY.items():
            if key in fields and do != only:
                fields[key].fail(f"{called}: `{key}` is for rules that {only}", f"this one says do: {do}")
        return cast(Do, do)

    def _who(self, fields: dict[str, Node], called: str) -> tuple[str, ...]:
        if "who" not in fields:
            return ()
        for n in document.one_or_more(fields["who"], f"{called}: who"):
            text = document.string(n, f"{called}: who")
            if text not in self.identities:
                n.fail(f"{called}: unknown identity `{text}`", did_you_mean(text, tuple(self.identities)))
        return tuple(dict.fromkeys(document.strings(fields["who"], f"{called}: who")))

    def _to(self, fields: dict[str, Node], called: str) -> tuple[Target, ...]:
        if "to" not in fields:
            return ()
        found: dict[str, Target] = {}
        for n in document.one_or_more(fields["to"], f"{called}: to"):
            text = document.string(n, f"{called}: to")
            if text in self.targets:
                found[text] = self.targets[text]
            elif places.looks_like_a_place(text):
                found[text] = places.inline(n, called, text)
            else:
                n.fail(f"{called}: unknown target `{text}`", did_you_mean(text, tuple(self.targets)))
        return tuple(found.values())

    def _reason(self, fields: dict[str, Node], called: str) -> str:
        if "reason" not in fields:
            return ""
        text = document.string(fields["reason"], f"{called}: reason")
        if len(text) > MAX_REASON:
            fields["reason"].fail(f"{called}: reason is longer than {MAX_REASON} characters")
        return text


def _pairs(tops: dict[str, Node], key: str) -> tuple[tuple[Node, Node], ...]:
    if key not in tops:
        return ()
    document.mapping(tops[key], key)
    return tops[key].fields or ()


def _approval(node: Node, fields: dict[str, Node], called: str) -> Approval:
    if "approvers" not in fields:
        what = f"{called}: can never take effect: approve without approvers"
        node.fail(what, "write approvers: {group: dba}")
    what = f"{called}: approvers"
    said = document.mapping(fields["approvers"], what, ("group", "count", "within", "reuse"))
    if "group" not in said:
        fields["approvers"].fail(f"{what}: can never take effect: no group", "write group: and its name")
    usual = Approval()
    return Approval(
        group=document.string(said["group"], f"{what}.group"),
        count=_count(said["count"], f"{what}.count") if "count" in said else usual.count,
        within_s=document.duration(said["within"], f"{what}.within") if "within" in said else usual.within_s,
        reuse=_reuse(said["reuse"], f"{what}.reuse") if "reuse" in said else usual.reuse,
    )


def _on_incident(fields: dict[str, Node], called: str) -> Literal["", "freeze"]:
    if "on_incident" not in fields:
        return ""
    document.choice(fields["on_incident"], f"{called}: on_incident", ("freeze",))
    return "freeze"


def _count(node: Node, name: str) -> int:
    if node.text == "0":
        node.fail(f"{name}: can never take effect: nobody is asked", "write 1, or do: allow")
    return document.whole(node, name, 1, MAX_APPROVERS)


def _reuse(node: Node, name: str) -> str:
    text = document.string(node, name)
    return text if text in ("once", "session") else str(int(document.duration(node, name)))


def _method(fields: dict[str, Node], called: str) -> Method:
    node = fields.get("with")
    if node is None:
        return Method()
    if node.fields is not None:
        said = document.mapping(node, f"{called}: with", ("fixed",))
        if "fixed" not in said or said["fixed"].text is None:
            node.fail(f"{called}: with: expected one value", 'write {fixed: "..."}')
        return Method("fixed", said["fixed"].text)
    if node.empty and node.text:  # the word null, which YAML would take for nothing
        return Method("null")
    if node.text == "fixed":
        node.fail(f"{called}: with: `fixed` needs a text", 'write with: {fixed: "..."}')
    return Method(cast(MethodName, document.choice(node, f"{called}: with", METHODS)))


def _fits_together(node: Node, fields: dict[str, Node], rule: Rule, called: str) -> None:
    """Refuse rules that say nothing or contradict themselves."""
    if rule.do == "mask" and not rule.detect and CELLS.keys().isdisjoint(rule.when):
        what = f"{called}: can never take effect: the mask names nothing to hide"
        node.fail(what, "name in `when` what to hide: column, key, json or detect, as the protocol has it")
    if not rule.inspect and rule.conditional:
        what = f"{called}: can never take effect: `when` needs inspection"
        fields["inspect"].fail(what, "take `when` or `inspect: false` out")
    if not rule.inspect and rule.keep_s:
        what = f"{called}: can never take effect: what is not inspected is not recorded"
        fields["keep"].fail(what, "take `keep` or `inspect: false` out")
    if not rule.inspect and rule.on_incident:
        what = f"{called}: can never take effect: what is not inspected has no incident"
        fields["on_incident"].fail(what, "take `on_incident` or `inspect: false` out")
    if not rule.inspect and rule.record:
        what = f"{called}: can never take effect: what is not inspected is not recorded"
        fields["record"].fail(what, "take `record` or `inspect: false` out")
    if not rule.inspect and not rule.to:
        what = f"{called}: `inspect: false` without `to` would pass anything"
        fields["inspect"].fail(what, "name the place")


def rules(
    files: Sequence[tuple[str, str]],
    resolve: Callable[[str], Sequence[str]],
    key: bytes = b"",
    *,
    checked: bool = False,
) -> Policy:
    """Return the policy of the files (name, text); `*.test.yaml` among them are left out.

    `resolve` gives the addresses of a host name, or raises OSError. `key` is for the hashes of masked values.
    `checked`: others have found no rule among them that is of no use, so this is not looked for.

    Raises:
        ConfigError: with file and line, what is wrong, and one hint.
    """
    read = sorted((name, text) for name, text in files if not name.endswith(TESTS))
    trees = [document.mapping(document.parse(name, text), "rules file", TOP) for name, text in read]
    reading = _Reading(resolve)
    for tops in trees:
        reading.names(tops)
    for tops in trees:
        for place, node in enumerate(document.sequence(tops["rules"], "rules") if "rules" in tops else (), 1):
            rule = reading.rule(node, place)
            reading.rules[rule.id] = rule
            if len(reading.rules) > MAX_RULES:
                node.fail(f"more than {MAX_RULES} rules", "join rules that differ in one value")
    if not checked:
        refuse_useless(tuple(reading.rules.values()), reading.identities)
    refuse_lengths(tuple(reading.rules.values()), reading.targets.values())
    return Policy(
        tuple(reading.rules.values()),
        tuple(reading.identities.values()),
        tuple(reading.targets.values()),
        default=reading.default.text or "block" if reading.default else "block",
        default_where=reading.default.where if reading.default else "",
        patterns=reading.patterns,
        revision=revision(read),
        key=key,
    )


def revision(files: Sequence[tuple[str, str]]) -> str:
    """Return the hash over names and texts of all files."""
    digest = hashlib.sha256()
    for name, text in files:
        for part in (name.rsplit("/", 1)[-1], text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
