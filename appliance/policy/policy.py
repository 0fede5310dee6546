"""The rules in force: who may do what where, and what is masked.

`block`, `approve` and `allow` decide, the first that matches; `mask` rules all apply; no match is `default`.
Each condition is true, false or unknown. Unknown matches for `block`, `approve` and `mask` and does not for
`allow`. `allow` needs every value of each key it lists to match, the others need one.

A mask on columns also blocks what would carry their values past it: statements that compare them (an oracle)
or write them elsewhere (a copy no mask knows).

A Policy never changes; a reload makes another. What it remembers of earlier questions is bounded, for speed.
"""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.facts import Facts, letters
from appliance.facts.readers import denoted
from appliance.facts.words import CELLS, PROTOCOLS, protocols_of
from appliance.model import Address, Decision, Process
from appliance.policy.anchors import NAMES, Anchors
from appliance.policy.detect import Detectors
from appliance.policy.masks import Mask, Masks
from appliance.policy.rule import UNSURE, Identity, Rule, Target

# keys that masks look at, whether a rule names them or not
READ = ("compared", "copied", "reshaped", *CELLS, *CELLS.values())
FEW = 16  # rules; below, one decision takes a few microseconds
MAX_DECIDED = 1024  # decisions remembered; programs repeat a few dozen statements
MAX_WORDS = 100  # values of a statement whose decision is remembered; identifiers have at most 63 bytes
MAX_LETTERS = 8192  # characters of them: values of JSON and headers may be long. With MAX_DECIDED at most 8 MB
MAX_SCOPES = 4096  # pairs of identities and server remembered; agents talk to few servers
ANSWERS = (False, None, True)  # of `who`


class Scope(msgspec.Struct, frozen=True):
    """The rules that can matter between one process and one server, in order; `sure`: who is not in doubt."""

    deciders: tuple[tuple[Rule, bool], ...]
    masks: tuple[Mask, ...]
    shadow_masks: tuple[Mask, ...]
    levels: tuple[Rule, ...]  # masks that say how much is kept of what they match
    few: bool  # judging anew is as quick as remembering, or needs the text, which differs each time
    keys: tuple[str, ...]  # of facts that matter
    anchors: Anchors  # the deciders, by what they are about


class Policy:
    """Built once from checked rules. `key` makes hashes of masked values those of this install alone."""

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        identities: Sequence[Identity] = (),
        targets: Sequence[Target] = (),
        *,
        default: str = "block",
        patterns: Mapping[str, str] | None = None,
        revision: str = "",
        key: bytes = b"",
        default_where: str = "",
    ) -> None:
        self.rules, self.identities, self.targets = tuple(rules), tuple(identities), tuple(targets)
        self.default, self.revision, self.patterns = default, revision, dict(patterns or {})
        self._default_where, self._key = default_where, key
        self._detectors = Detectors((name for rule in rules for name in rule.detect), self.patterns)
        self._masks = {rule.id: Mask(rule) for rule in self.rules if rule.do == "mask"}
        self._protocols = {r.id: protocols_of(frozenset(r.when)) for r in self.rules}
        self._by_id = {rule.id: rule for rule in self.rules}
        self.reacting = {rule.id: rule for rule in self.rules if rule.on_incident and not rule.shadow}
        self._specific = sorted(self.identities, key=lambda i: -len(i.keys))  # stable: else as written
        self._narrow = sorted(
            ((net, target) for target in self.targets for net in target.nets), key=lambda nt: nt[0].narrowness
        )
        self._hosts = tuple(target for target in self.targets if target.hosts)
        self._decided: dict[tuple[object, ...], Decision] = {}
        self._scopes: dict[tuple[tuple[str, ...], Address], Scope] = {}
        self._found: dict[Address, Target | None] = {}  # of as many servers
        self._made: dict[bytes, Scope] = {}

    def identify(self, process: Process | None) -> tuple[str, ...]:
        """Return the names of the identities it is, most specific first, then those it could be, after a "?".

        A process that is not known could be any: the one name "?".
        """
        if process is None:
            return (UNSURE,)
        answers = [(identity.name, identity.match(process)) for identity in self._specific]
        sure = [name for name, answer in answers if answer]
        return (*sure, *(UNSURE + name for name, answer in answers if answer is None))

    def target(self, server: Address) -> Target | None:
        """Return the target the server belongs to: by its name, or the one with the narrowest network."""
        if server not in self._found:
            if len(self._found) >= MAX_SCOPES:
                self._found.clear()
            self._found[server] = self._target(server)
        return self._found[server]

    def _target(self, server: Address) -> Target | None:
        by_name = (target for target in self._hosts if target.holds(server) and target.named(server))
        by_net = (target for net, target in self._narrow if net.holds(server) and target.holds(server))
        return next(by_name, None) or next(by_net, None)

    def admit(self, who: tuple[str, ...], server: Address) -> Decision:
        """Judge a connection before its first byte: block when no rule could allow or approve any of it."""
        for rule, sure in self._scope(who, server).deciders:
            if rule.shadow:
                continue
            if rule.do == "block":
                if not rule.conditional:
                    return self._decision(rule, "block", unknown="" if sure else _WHO)
            elif sure or rule.do == "approve":
                return self._decision(rule, "allow")
        return self._default()

    def passes(self, who: tuple[str, ...], server: Address) -> Decision | None:
        """Return the decision of an `inspect: false` rule that lets the connection by unread, if any."""
        scope = self._scope(who, server)
        target = self.target(server)
        if any(self._speaks(m.rule, target) for m in (*scope.masks, *scope.shadow_masks)):
            return None
        for rule, sure in scope.deciders:
            if rule.do == "allow" and not rule.inspect and sure and not rule.shadow:
                return self._decision(rule, "allow")
            if self._speaks(rule, target) and (sure or rule.do != "allow"):
                return None
        return None

    def decide(self, who: tuple[str, ...], server: Address, facts: Facts) -> Decision:
        """Judge one message."""
        scope = self._scope(who, server)
        if scope.few:
            return self._judge(scope, facts)
        values = tuple((key, facts.values[key]) for key in scope.keys if key in facts.values)
        if sum(len(found) for _, found in values) > MAX_WORDS:
            return self._judge(scope, facts)
        asked = (who, server, facts.protocol, values, facts.unknown, facts.why)
        decision = self._decided.get(asked)
        if decision is None:
            decision = self._judge(scope, facts)
            if letters(found for _, found in values) <= MAX_LETTERS:
                if len(self._decided) >= MAX_DECIDED:
                    self._decided.clear()
                self._decided[asked] = decision
        return decision

    def _judge(self, scope: Scope, facts: Facts) -> Decision:
        shadow: list[str] = []
        decision = self._first(scope, facts, shadow)
        if decision.verdict != "block" and scope.masks:
            decision = self._guard(scope, facts) or decision
        if scope.levels:
            decision = msgspec.structs.replace(decision, record=self._level(scope, facts, decision.record))
        shadow += [m.rule.id for m in scope.shadow_masks if self.touched(m.rule, facts)]
        return msgspec.structs.replace(decision, shadow=tuple(shadow)) if shadow else decision

    def called(self, id: str, server: Address, names: frozenset[str]) -> bool:
        """Return whether a rule is about a server that goes by one of these names, proved or asked for in TLS."""
        rule = self._by_id.get(id)
        return rule is None or not rule.to or any(target.called(server, names) for target in rule.to)

    def names(self, who: tuple[str, ...], server: Address) -> bool:
        """Return True if a rule between them names things of the schema, so it matters which they are."""
        scope = self._scope(who, server)
        rules = [rule for rule, _ in scope.deciders] + [m.rule for m in (*scope.masks, *scope.shadow_masks)]
        return any(not NAMES.isdisjoint(rule.when) for rule in rules)

    def reads_text(self, who: tuple[str, ...], server: Address) -> bool:
        """Return True if a rule between them looks at what a message says, beyond what it would do."""
        scope = self._scope(who, server)
        return "text" in scope.keys or any(rule.detect for rule, _ in scope.deciders)

    def masks(self, who: tuple[str, ...], server: Address) -> Masks:
        """Return what is masked between them; falsy when nothing is."""
        return Masks(self._scope(who, server).masks, self.matches, self._detectors, self._key)

    def matches(self, rule: Rule, facts: Facts) -> bool | None:
        """Return whether the conditions of `when` hold; None if that cannot be known."""
        if not rule.conditional:
            return True
        spoken = facts.protocol in PROTOCOLS  # else no condition can be evaluated
        if rule.when and spoken and facts.protocol not in self._protocols[rule.id]:
            return None if facts.opaque else False
        known = spoken or not rule.when
        for key in rule.when if spoken else ():
            if rule.do == "mask" and key in CELLS:
                continue  # which cells, not which statements
            answer = self.holds(rule, key, facts)
            if answer is False:
                return False
            known = known and answer is True
        if rule.detect and rule.do != "mask":
            answer = self.detects(rule, facts)
            if answer is False:
                return False
            known = known and answer is True
        return True if known else None

    def holds(self, rule: Rule, key: str, facts: Facts) -> bool | None:
        """Return whether one condition of `when` holds."""
        test, values = rule.when[key], facts.values.get(key, frozenset())
        if rule.do == "allow":
            if values and not test.every(values):
                return False
            return None if key in facts.unknown else bool(values)
        answer = test.any(values)
        return None if answer is False and key in facts.unknown else answer

    def detects(self, rule: Rule, facts: Facts) -> bool | None:
        """Return whether a detector of the rule finds something in what the message says."""
        texts = {*facts.values.get("text", ()), facts.subject}
        texts |= {denoted(facts.protocol, text) for text in texts}
        found = {name for text in texts for name, _ in self._detectors.find(text)}
        if not found.isdisjoint(rule.detect):
            return True
        return None if "text" in facts.unknown else False

    def touched(self, rule: Rule, facts: Facts) -> bool:
        """Return whether a mask rule could change what the statement brings back."""
        return self.matches(rule, facts) is not False and self._masks[rule.id].touches(facts)

    def who(self, rule: Rule, who: tuple[str, ...]) -> bool | None:
        """Return whether the rule is about these identities."""
        if not rule.who or not set(rule.who).isdisjoint(who):
            return True
        unsure = UNSURE in who or any(UNSURE + name in who for name in rule.who)
        return None if unsure else False

    def _scope(self, who: tuple[str, ...], server: Address) -> Scope:
        scope = self._scopes.get((who, server))
        if scope is None:
            if len(self._scopes) >= MAX_SCOPES:
                self._scopes.clear()
                self._made.clear()
            scope = self._scopes[who, server] = self._narrowed(who, server)
        return scope

    def _narrowed(self, who: tuple[str, ...], server: Address) -> Scope:
        holds: dict[tuple[int, bool], bool] = {}  # by target, which many rules share
        answers = [self.who(rule, who) if about(rule, server, holds) else False for rule in self.rules]
        same = bytes(map(ANSWERS.index, answers))  # places that the same rules are about share one scope
        scope = self._made.get(same)
        if scope is None:
            known = zip(self.rules, answers, strict=True)
            here = [(rule, answer is True) for rule, answer in known if answer is not False]
            scope = self._made[same] = self._of(here)
        return scope

    def _of(self, here: Sequence[tuple[Rule, bool]]) -> Scope:
        """Return the scope of these rules; whether who is meant is sure."""
        masks = [self._masks[rule.id] for rule, _ in here if rule.do == "mask"]
        detects = any(rule.detect for rule, _ in here if rule.do != "mask")
        deciders = tuple((rule, sure) for rule, sure in here if rule.do != "mask")
        return Scope(
            deciders=deciders,
            masks=tuple(m for m in masks if not m.rule.shadow),
            shadow_masks=tuple(m for m in masks if m.rule.shadow),
            levels=tuple(m.rule for m in masks if m.rule.record and not m.rule.shadow),
            few=detects or len(here) < FEW,
            keys=tuple(sorted({*READ, *(key for rule, _ in here for key in rule.when)})),
            anchors=Anchors(deciders),
        )

    def _first(self, scope: Scope, facts: Facts, shadow: list[str]) -> Decision:
        for rule, sure in scope.deciders if scope.few else scope.anchors.of(facts):
            answer = self.matches(rule, facts)
            certain = answer is True and sure
            if answer is False or (rule.do == "allow" and not certain):
                continue
            if rule.shadow:
                shadow.append(rule.id)
                continue
            unknown = "" if certain else _WHO if answer else facts.why or "a condition could not be evaluated"
            return self._decision(rule, rule.do, unknown=unknown)
        return self._default()

    def _level(self, scope: Scope, facts: Facts, decided: str) -> str:
        """Return the strictest level that the deciding rule and the masks ask for."""
        said = [rule.record for rule in scope.levels if self.touched(rule, facts)]
        return max((decided, *said), key=("", "full", "requests", "metadata").index)

    def _guard(self, scope: Scope, facts: Facts) -> Decision | None:
        for mask in scope.masks:
            if self.matches(mask.rule, facts) is not False and (why := mask.guards(facts)):
                return self._decision(mask.rule, "block", reason=why)
        return None

    def _speaks(self, rule: Rule, target: Target | None) -> bool:
        """Return True if the rule can be about what is spoken at the target."""
        protocol = target.protocol if target else ""
        return not rule.when or not protocol or protocol in self._protocols[rule.id]

    def _decision(self, rule: Rule, verdict: str, reason: str = "", unknown: str = "") -> Decision:
        return Decision(
            verdict=verdict,  # type: ignore[arg-type]
            rule=rule.id,
            file=rule.where,
            revision=self.revision,
            reason=reason or rule.reason or f"rule {rule.id}",
            unknown=unknown,
            approval=rule.approval if verdict == "approve" else None,
            record=rule.record,
            reply=rule.reply if verdict == "block" else "",
        )

    def _default(self) -> Decision:
        allowed = self.default == "allow"
        return Decision(
            verdict="allow" if allowed else "block",
            rule="default",
            file=self._default_where,
            revision=self.revision,
            reason="no rule matches, and the default is allow" if allowed else "no rule allows it",
        )


def about(rule: Rule, server: Address, known: dict[tuple[int, bool], bool] | None = None) -> bool:
    """Return whether the rule's `to` is about a server. What blocks a place blocks it in whatever transport.

    `known`: what targets said of it before, by their id.
    """
    if not rule.to:
        return True
    if known is None:
        known = {}
    for target in rule.to:
        key = id(target), rule.do == "block"
        if key not in known:
            known[key] = target.holds(server, anyhow=key[1])
        if known[key]:
            return True
    return False


_WHO = "which process it is could not be told for certain"
