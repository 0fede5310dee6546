"""`when` of a rule: keys and values checked against the words of the protocols."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from appliance.config import document
from appliance.config.document import Node, did_you_mean
from appliance.facts.words import PROTOCOLS, Key
from appliance.policy.finders import BUILT_IN
from appliance.policy.leaves import Leaves, Range
from appliance.policy.patterns import Names, Numbers, like
from appliance.policy.rule import Target, Test
from appliance.policy.statements import Statements

When = dict[str, Test]
MAX_VALUES = 1000  # of one key; longer lists belong into a `*` or a schema of their own
COMPARISONS = ("gt", "ge", "lt", "le")
MAX_NUMBER = 10**15
NAN, INFINITE = Decimal("nan"), Decimal("inf")
DIALECTS = ("mysql", "postgres")  # protocols whose requests are statements
FORM_OF_STATEMENTS = 'write {field: "$.query", dialect: postgres, effect: drop}; or the name of a field, or `body`'


def when(node: Node, name: str, to: tuple[Target, ...]) -> When:
    """Return the conditions of a rule, `detect` left out."""
    fields = document.mapping(node, f"{name}: when")
    if not fields:
        node.fail(f"{name}: when: is empty", "write a condition, or leave `when` out to match anything")
    conditions = {key: value for key, value in fields.items() if key != "detect"}
    known = _known(to)
    for key, value in conditions.items():
        _speaks(value, name, key, to)
        if not any(key in keys for keys in known.values()):
            everywhere = dict.fromkeys(key for keys in PROTOCOLS.values() for key in keys)
            value.fail(f"{name}: unknown condition `{key}`", did_you_mean(key, (*everywhere, "detect")))
    spoken = [keys for keys in known.values() if conditions.keys() <= keys.keys()]
    if not spoken:
        node.fail(f"{name}: can never take effect: no protocol has all of {', '.join(sorted(conditions))}")
    forms = {key: [keys[key] for keys in spoken] for key in conditions}
    return {key: _one_form(value, f"{name}: {key}", forms[key]) for key, value in conditions.items()}


def _one_form(node: Node, name: str, spoken: Sequence[Key]) -> Test:
    if len({(key.kind, key.parts) for key in spoken}) > 1:
        node.fail(f"{name}: means different things in different protocols", "give the rule a `to` with one protocol")
    return _test(node, name, spoken)


def _known(to: tuple[Target, ...]) -> Mapping[str, Mapping[str, Key]]:
    """Return the keys of the protocols that the places of a rule may speak."""
    if not to or not all(target.protocol for target in to):
        return PROTOCOLS
    return {target.protocol: PROTOCOLS[target.protocol] for target in to}


def _speaks(node: Node, name: str, key: str, to: tuple[Target, ...]) -> None:
    if not any(key in keys for keys in PROTOCOLS.values()):
        return
    for target in to:
        if target.protocol and key not in PROTOCOLS[target.protocol]:
            what = f"{name}: can never take effect: `{key}` is not a condition of {target.protocol}"
            hint = did_you_mean(key, tuple(PROTOCOLS[target.protocol]))
            node.fail(f"{what}, which {target.name} speaks", hint)


def _test(node: Node, name: str, spoken: Sequence[Key]) -> Test:
    """`spoken`: the key, as each protocol that the rule can be about has it."""
    known = spoken[0]
    if known.kind == "number":
        return _numbers(node, name)
    if known.kind == "leaves":
        return _leaves(node, name)
    if known.kind == "statements":
        return _statements(node, name)
    nodes = document.one_or_more(node, name)
    if len(nodes) > MAX_VALUES:
        node.fail(f"{name}: more than {MAX_VALUES} values", "use `*`")
    texts = [document.string(n, name) for n in nodes]
    if known.host:
        texts = [_hosted(n, name, text) for n, text in zip(nodes, texts, strict=True)]
    if known.form:
        _formed(nodes, name, texts, known)
    if known.kind == "word":
        words = tuple(dict.fromkeys(word for key in spoken for word in key.words))
        for n, text in zip(nodes, texts, strict=True):
            _word(n, name, text, words)
    try:
        return Names(texts, known.parts)
    except ValueError as error:
        (bad,) = error.args
        what = f"{name}: `{bad}` is not a name of at most {known.parts} parts"
        nodes[texts.index(bad)].fail(what, f"write {_form(known.parts)}")


def _hosted(node: Node, name: str, text: str) -> str:
    """Return the name of a host in its one form: small letters, none but those of ASCII, no dot at its end."""
    try:
        labels = [part if part.isascii() else part.encode("idna").decode() for part in text.split(".")]
    except UnicodeError:
        node.fail(f"{name}: `{text}` is no name of a host", "write international names as xn--...")
    return ".".join(labels).lower().rstrip(".") or "."


def _formed(nodes: Sequence[Node], name: str, texts: Sequence[str], known: Key) -> None:
    for node, text in zip(nodes, texts, strict=True):
        if not re.fullmatch(known.form, text, re.DOTALL):
            node.fail(f"{name}: `{text[:70]}` can never match", f"write it as in `{known.example}`: {known.says}")


def _form(parts: int) -> str:
    return {1: "a name", 2: "schema.name", 3: "schema.table.column"}[parts]


def _word(node: Node, name: str, text: str, words: tuple[str, ...]) -> None:
    fits = any(like(text, word) for word in words) if "*" in text else text in words
    if not fits:
        node.fail(f"{name}: unknown value `{text}`", did_you_mean(text, words))


def _leaves(node: Node, name: str) -> Leaves:
    if node.fields is None:
        tests: dict[str, Names | Range | None] = dict.fromkeys(document.strings(node, name))
    else:
        tests = {path: _leaf(value, f"{name}: {path}") for path, value in document.mapping(node, name).items()}
    if not 0 < len(tests) <= MAX_VALUES:
        node.fail(f"{name}: names no path, or more than {MAX_VALUES}", 'write {"$.amount": {gt: 10000}}, or "$.ssn"')
    try:
        return Leaves(tests)
    except ValueError as error:
        node.fail(f"{name}: `{error}` is no path of a leaf", 'write "$.amount", "$.items[*].sku" or "$..ssn"')


def _statements(node: Node, name: str) -> Statements:
    fields = document.mapping(node, name)
    if "field" not in fields or "dialect" not in fields or len(fields) < 3:
        node.fail(f"{name}: needs `field`, `dialect` and a condition", FORM_OF_STATEMENTS)
    dialect = document.choice(fields["dialect"], f"{name}.dialect", DIALECTS)
    keys = {key: known for key, known in PROTOCOLS[dialect].items() if known.kind in ("word", "name", "text")}
    tests: dict[str, Names | Numbers] = {}
    for key, value in fields.items():
        if key in ("field", "dialect"):
            continue
        if key not in keys:
            value.fail(f"{name}: unknown condition `{key}` of {dialect}", did_you_mean(key, tuple(keys)))
        test = _test(value, f"{name}.{key}", [keys[key]])
        assert isinstance(test, Names)
        tests[key] = test
    try:
        return Statements(document.string(fields["field"], f"{name}.field"), dialect, tests)
    except ValueError as error:
        fields["field"].fail(f"{name}.field: `{error}` is no path of a leaf", FORM_OF_STATEMENTS)


def _leaf(node: Node, name: str) -> Names | Range:
    if node.fields is None:
        return Names(document.strings(node, name), 1)
    bounds: dict[str, Decimal] = {}
    for key, value in document.mapping(node, name, COMPARISONS).items():
        try:
            bounds[key] = Decimal(value.text or "")
        except InvalidOperation:
            bounds[key] = NAN
        if not bounds[key].is_finite():
            value.fail(f"{name}.{key}: `{value.text}` is no number", "write it as in {gt: 10000}")
    low = max((bounds[key] for key in ("gt", "ge") if key in bounds), default=-INFINITE)
    high = min((bounds[key] for key in ("lt", "le") if key in bounds), default=INFINITE)
    if not bounds or low > high or (low == high and low in (bounds.get("gt"), bounds.get("lt"))):
        node.fail(f"{name}: no number fits", "write {gt: 10000}")
    return Range(**bounds)


def _numbers(node: Node, name: str) -> Numbers:
    if node.fields is None:
        exact = document.whole(node, name, 0, MAX_NUMBER)
        return Numbers(exact, exact)
    found = document.mapping(node, name, COMPARISONS)
    at = {key: document.whole(n, f"{name}.{key}", 0, MAX_NUMBER) for key, n in found.items()}
    lows = [at[key] + add for key, add in (("gt", 1), ("ge", 0)) if key in at]
    highs = [at[key] - less for key, less in (("lt", 1), ("le", 0)) if key in at]
    low, high = max(lows, default=None), min(highs, default=None)
    if not at or (low is not None and high is not None and low > high):
        node.fail(f"{name}: no number fits", "write a number, or {gt: 1}")
    return Numbers(low, high)


def detect(node: Node, name: str, do: str, patterns: Mapping[str, str]) -> tuple[str, ...]:
    """Return the detectors a rule's `when` names."""
    value = document.mapping(node, f"{name}: when").get("detect")
    if value is None:
        return ()
    if do == "allow":
        what = f"{name}: `detect` is not a condition of allow"
        value.fail(what, "finding nothing proves nothing: block instead")
    known = (*BUILT_IN, *patterns)
    for n in document.one_or_more(value, f"{name}: detect"):
        text = document.string(n, f"{name}: detect")
        if text not in known:
            n.fail(f"{name}: unknown detector `{text}`", did_you_mean(text, known))
    return tuple(dict.fromkeys(document.strings(value, f"{name}: detect")))
