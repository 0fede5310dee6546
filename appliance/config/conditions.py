"""`when` of a rule: keys and values checked against the words of the protocols."""

from collections.abc import Mapping

from appliance.config import document
from appliance.config.document import Node, did_you_mean
from appliance.policy.finders import BUILT_IN
from appliance.policy.patterns import Names, Numbers, like
from appliance.policy.rule import Target
from appliance.policy.words import PROTOCOLS, Key

When = dict[str, Names | Numbers]
MAX_VALUES = 1000  # of one key; longer lists belong into a `*` or a schema of their own
COMPARISONS = ("gt", "ge", "lt", "le")
MAX_NUMBER = 10**15

KEYS: Mapping[str, Key] = {key: known for keys in PROTOCOLS.values() for key, known in keys.items()}


def when(node: Node, name: str, to: tuple[Target, ...]) -> When:
    """Return the conditions of a rule, `detect` left out."""
    out: When = {}
    fields = document.mapping(node, f"{name}: when")
    if not fields:
        node.fail(f"{name}: when: is empty", "write a condition, or leave `when` out to match anything")
    for key, value in fields.items():
        if key == "detect":
            continue
        if key not in KEYS:
            value.fail(f"{name}: unknown condition `{key}`", did_you_mean(key, (*KEYS, "detect")))
        _speaks(value, name, key, to)
        out[key] = _test(value, f"{name}: {key}", key)
    if not any(out.keys() <= keys.keys() for keys in PROTOCOLS.values()):
        node.fail(f"{name}: can never take effect: no protocol has all of {', '.join(sorted(out))}")
    return out


def _speaks(node: Node, name: str, key: str, to: tuple[Target, ...]) -> None:
    for target in to:
        if target.protocol and key not in PROTOCOLS[target.protocol]:
            what = f"{name}: can never take effect: `{key}` is not a condition of {target.protocol}"
            hint = did_you_mean(key, tuple(PROTOCOLS[target.protocol]))
            node.fail(f"{what}, which {target.name} speaks", hint)


def _test(node: Node, name: str, key: str) -> Names | Numbers:
    known = KEYS[key]
    if known.kind == "number":
        return _numbers(node, name)
    nodes = document.one_or_more(node, name)
    if len(nodes) > MAX_VALUES:
        node.fail(f"{name}: more than {MAX_VALUES} values", "use `*`")
    texts = [document.string(n, name) for n in nodes]
    for n, text in zip(nodes, texts, strict=True):
        if known.kind == "word":
            _word(n, name, text, known)
        try:
            Names([text], known.parts)
        except ValueError:
            what = f"{name}: `{text}` is not a name of at most {known.parts} parts"
            n.fail(what, f"write {_form(known.parts)}")
    return Names(texts, known.parts)


def _form(parts: int) -> str:
    return {1: "a name", 2: "schema.name", 3: "schema.table.column"}[parts]


def _word(node: Node, name: str, text: str, known: Key) -> None:
    fits = any(like(text, word) for word in known.words) if "*" in text else text in known.words
    if not fits:
        node.fail(f"{name}: unknown value `{text}`", did_you_mean(text, known.words))


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
