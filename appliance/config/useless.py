"""Rules that can never take effect because an earlier one always decides before them.

Theory of operation. Rule E hides a later rule L when whatever L matches, E matches: E's `who`, `to` and each
condition are the same or wider. Conditions of `allow` hold only when *every* value matches, so an `allow`
with conditions hides no `block`. Comparing all pairs is too slow for a thousand rules, so earlier rules are
kept as sets of bits: for each dimension (who, to, a key of `when`) those that say something of it, and those
that say each value. A value is hidden by itself, by itself with parts that are `*`, or by a pattern that
begins as it does. What is left after joining the sets, mostly nothing, is compared in full.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, product

from appliance.model import ConfigError
from appliance.policy.leaves import Leaves
from appliance.policy.patterns import Names, Numbers
from appliance.policy.rule import Identity, Net, Rule, Test
from appliance.policy.statements import Statements


def refuse_useless(rules: tuple[Rule, ...], identities: Mapping[str, Identity]) -> None:
    """
    Raises:
        ConfigError: at the first rule that can never take effect.
    """
    wider = _Wider(identities)
    earlier = _Earlier(wider)
    for rule in rules:
        if rule.do == "mask":
            continue
        hider = next((e for e in earlier.candidates(rule) if hides(e, rule, wider)), None)
        if hider is not None:
            what = f"rule {rule.id}: can never take effect: {hider.id} ({hider.where}) decides before it"
            raise ConfigError(rule.where, what, "put it before that rule, or narrow that one")
        if not rule.shadow:
            earlier.add(rule)
    for rule in rules:
        if not rule.inspect:
            _refuse_masked(rule, rules, wider)


def _refuse_masked(rule: Rule, rules: tuple[Rule, ...], wider: "_Wider") -> None:
    """Nothing may go unread where a mask applies."""
    for mask in rules:
        if mask.do == "mask" and not mask.shadow and _who(mask, rule, wider) and _to(mask, rule):
            what = f"rule {rule.id}: can never take effect: `inspect: false` where {mask.id} masks"
            hint = f"give {mask.id} ({mask.where}) a `to`, or let this be inspected"
            raise ConfigError(rule.where, what, hint)


def hides(early: Rule, late: Rule, wider: "_Wider") -> bool:
    """Return True if `early` matches whatever `late` does."""
    if early.conditional and early.do == "allow" and late.do != "allow":
        return False
    if early.detect and not (late.detect and set(late.detect) <= set(early.detect)):
        return False
    if not (_who(early, late, wider) and _to(early, late)):
        return False
    return all(key in late.when and _covers(test, late.when[key]) for key, test in early.when.items())


def _covers(wide: Test, narrow: Test) -> bool:
    if isinstance(wide, Statements):
        return isinstance(narrow, Statements) and wide.covers(narrow)
    if isinstance(wide, Leaves):
        return isinstance(narrow, Leaves) and wide.covers(narrow)
    if isinstance(wide, Names) and isinstance(narrow, Names):
        return wide.covers(narrow)
    return isinstance(wide, Numbers) and isinstance(narrow, Numbers) and wide.covers(narrow)


def _who(early: Rule, late: Rule, wider: "_Wider") -> bool:
    if not early.who:
        return True
    return bool(late.who) and all(not wider.than(name).isdisjoint(early.who) for name in late.who)


def _to(early: Rule, late: Rule) -> bool:
    if not early.to:
        return True
    return bool(late.to) and all(any(e.covers(t) for e in early.to) for t in late.to)


class _Wider:
    """Which identities every process of one identity has too: those with some of its keys, written alike."""

    def __init__(self, identities: Mapping[str, Identity]) -> None:
        self._identities = identities
        self._by_keys: dict[frozenset[object], set[str]] = defaultdict(set)
        self._known: dict[str, set[str]] = {}
        for name, identity in identities.items():
            self._by_keys[frozenset(identity.keys.items())].add(name)

    def than(self, name: str) -> set[str]:
        if name not in self._known:
            items = list(self._identities[name].keys.items())
            subsets = (frozenset(c) for n in range(1, len(items) + 1) for c in combinations(items, n))
            self._known[name] = {other for s in subsets for other in self._by_keys.get(s, ())}
        return self._known[name]


class _Earlier:
    """The rules so far, as bits by what they leave open or name."""

    def __init__(self, wider: _Wider) -> None:
        self._wider = wider
        self._rules: list[Rule] = []
        self._named: dict[str, int] = defaultdict(int)  # dimension -> rules that say something of it
        self._loose: dict[str, int] = defaultdict(int)  # dimension -> rules with a range of numbers
        self._lengths: set[tuple[int, int]] = set()  # versions and prefix lengths of networks so far
        self._exact: dict[tuple[str, object], int] = defaultdict(int)  # dimension, value -> rules

    def add(self, rule: Rule) -> None:
        bit = 1 << len(self._rules)
        self._rules.append(rule)
        if rule.who:
            self._note(bit, "who", list(rule.who))
        if rule.to:
            self._lengths |= {(net.network.version, net.network.prefixlen) for net in _nets(rule)}
            self._note(bit, "to", [_place(net, net.network.prefixlen) for net in _nets(rule)])
        if rule.detect:
            self._note(bit, "detect", list(rule.detect))
        for key, test in rule.when.items():
            self._note(bit, key, _noted(test))
            for begin in _begins(test.patterns) if isinstance(test, Names) else ():
                self._exact[key, begin] |= bit

    def _note(self, bit: int, dimension: str, exact: Sequence[object] | None) -> None:
        self._named[dimension] |= bit
        if exact is None:
            self._loose[dimension] |= bit
        for value in exact or ():
            self._exact[dimension, value] |= bit

    def candidates(self, rule: Rule) -> list[Rule]:
        """Return the earlier rules that could hide this one, in order."""
        left = (1 << len(self._rules)) - 1
        for dimension, named in self._named.items():
            fits = self._fits(dimension, rule)
            left &= ~named | fits
        out = []
        while left:
            low = left & -left
            out.append(self._rules[low.bit_length() - 1])
            left ^= low
        return out

    def _fits(self, dimension: str, rule: Rule) -> int:
        if dimension == "who":
            return self._all([[("who", w) for w in self._wider.than(name)] for name in rule.who])
        if dimension == "to":
            return self._all([[("to", place) for place in self._around(net)] for net in _nets(rule)])
        if dimension == "detect":
            return self._all([[("detect", name)] for name in rule.detect])
        test = rule.when.get(dimension)
        if test is None:
            return 0
        if isinstance(test, Numbers):
            return self._loose[dimension] | self._all([[(dimension, value)] for value in _noted(test) or ()])
        if isinstance(test, Leaves | Statements):
            return self._all([[(dimension, text)] for text in test.texts])
        return self._all([[(dimension, w) for w in _wider(p)] for p in test.patterns])

    def _around(self, net: Net) -> list[object]:
        """Return what a network that holds this one is noted under."""
        version, length = net.network.version, net.network.prefixlen
        return [_place(net, n) for v, n in self._lengths if v == version and n <= length]

    def _all(self, needs: list[list[tuple[str, object]]]) -> int:
        """Return the rules that name, for each need, one of its values; none if nothing is needed."""
        out = -1 if needs else 0
        for values in needs:
            one = 0
            for value in values:
                one |= self._exact.get(value, 0)
            out &= one
        return out


def _begins(patterns: Sequence[tuple[str, ...]]) -> set[str]:
    """Return, of each pattern that is partly `*`, how that part begins."""
    partly = [part for pattern in patterns for part in pattern if "*" in part and part != "*"]
    return {part.split("*")[0] for part in partly}


def _wider(pattern: tuple[str, ...]) -> list[object]:
    """Return what a pattern wider than this is noted under."""
    starred = product(*((part, "*") for part in pattern))
    literal = [part for part in pattern if "*" not in part]
    return [*starred, *{part[:n] for part in literal for n in range(len(part) + 1)}]


def _noted(test: Test) -> Sequence[object] | None:
    """Return the values a condition is noted under; None for a range of numbers."""
    if isinstance(test, Names):
        return test.patterns
    if isinstance(test, Leaves | Statements):
        return test.texts
    return [test.low] if test.low is not None and test.low == test.high else None


def _nets(rule: Rule) -> list[Net]:
    return [net for target in rule.to for net in target.nets]


def _place(net: Net, length: int) -> object:
    """Return the first `length` bits of a network's address. Ports are compared later."""
    address = int(net.network.network_address)
    return net.network.version, length, address >> (net.network.max_prefixlen - length)
