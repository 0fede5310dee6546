"""JSON Schemas for editors: of rules files, of their tests, of vendorgate.yaml.

Source: JSON Schema draft 2020-12. An editor's help, not the check: `rules` and `settings` know more.
"""

from typing import Any, Literal

import msgspec

from appliance.config.conditions import DIALECTS
from appliance.config.packets import MODES
from appliance.config.places import CONTAINER, PACKAGE, UNIT
from appliance.config.replies import WORDS as REPLIES
from appliance.config.rule_tests import TEXTS, VERDICTS
from appliance.config.rules import LEVELS, METHODS
from appliance.config.settings import Settings
from appliance.facts.words import PROTOCOLS, Key
from appliance.policy.finders import BUILT_IN
from appliance.policy.rule import DIGEST, IMAGES, KEYS

Json = dict[str, Any]

WORDS = ("word", "name", "text")  # kinds of keys that statements in a request have conditions on
DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT: Json = {"type": "string", "minLength": 1}
LEAF: Json = {"type": ["string", "number", "boolean", "null"]}
WHOLE: Json = {"type": "integer", "minimum": 0}
DURATION: Json = {"type": "string", "pattern": "^[0-9]+ ?[smhd]$"}
SIZE: Json = {"type": ["string", "integer"], "pattern": "^[0-9]+ ?([kMGT]?B|[KMGT]iB)?$"}


def schema(of: Literal["rules", "tests", "settings"] = "rules") -> Json:
    """Return the schema of a kind of file."""
    body = {"rules": _rules, "tests": _tests, "settings": _settings}[of]()
    return {"$schema": DRAFT, "title": f"vendorgate {of}", **body}


def _closed(properties: Json, *required: str) -> Json:
    out: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**out, "required": list(required)} if required else out


def _many(one: Json) -> Json:
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _rules() -> Json:
    identity = _identity()
    pin = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    path = {"type": "string", "pattern": "^/"}
    proof = {"ca": path, "name": TEXT, "pin": _many(pin), "present": path, "pass": {"type": "boolean"}}
    trust = {"anyOf": [{"const": "pass"}, {**_closed(proof), "minProperties": 1}]}
    mode = {"enum": list(MODES), "description": "of its TCP: terminated, or judged packet by packet"}
    target = {"protocol": {"enum": list(PROTOCOLS)}, "address": _many(TEXT), "tls": trust, "mode": mode}
    return _closed(
        {
            "identities": {
                "type": "object",
                "additionalProperties": {**_closed(identity), "minProperties": 1},
            },
            "targets": {"type": "object", "additionalProperties": _closed(target, "address")},
            "patterns": {"type": "object", "additionalProperties": TEXT},
            "rules": {"type": "array", "items": _rule()},
            "default": {"enum": ["block", "allow"]},
        }
    )


def _identity() -> Json:
    path = _like("[/*].*")
    script = _like(rf"[/*].*|module:.+|code:|stdin:|{DIGEST}[0-9a-fA-F]{{64}}")
    says = {
        "cgroup": (TEXT, "path below the slice; what is below it matches too"),
        "exe": (path, "whole path of the executable, links resolved; * in one part, ** for any number of parts"),
        "uid": (WHOLE, "user of the process when it connected"),
        "package": (_like(PACKAGE.pattern), "Debian or RPM package of this host with the executable, no version"),
        "parent": (path, "executable of any process it descends from"),
        "sha256": (_like("[0-9a-fA-F]{64}"), "digest of the file that is executed"),
        "script": (script, "what an interpreter runs: a path, module:NAME, code:, stdin:, or sha256:DIGITS"),
        "unit": (_like(UNIT.pattern), "systemd unit, by the cgroup; templates as name@*.service"),
        "container": (_like(CONTAINER.pattern), "id of the container, or at least 12 digits of it, by the cgroup"),
        "image": ({"enum": list(IMAGES)}, "what the executable was when it was executed"),
    }
    assert tuple(says) == KEYS, "a key of identities without a schema"
    return {key: {**_many(one), "description": text} for key, (one, text) in says.items()}


def _like(pattern: str) -> Json:
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def _rule() -> Json:
    approvers = {
        "group": TEXT,
        "count": {"type": "integer", "minimum": 1},
        "within": DURATION,
        "reuse": {"anyOf": [{"enum": ["once", "session"]}, DURATION]},
    }
    method = {"anyOf": [{"enum": [*METHODS, None]}, _closed({"fixed": {"type": "string"}}, "fixed")]}
    rule = _closed(
        {
            "id": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"},
            "who": _many(TEXT),
            "to": _many(TEXT),
            "when": _when(),
            "do": {"enum": list(VERDICTS)},
            "with": method,
            "compare": {"enum": ["allow", "block"]},
            "approvers": _closed(approvers, "group"),
            "reason": TEXT,
            "shadow": {"type": "boolean"},
            "inspect": {"type": "boolean"},
            "on_incident": {"enum": ["freeze"], "description": "the unit, when this blocks or a protocol is broken"},
            "record": {"enum": list(LEVELS), "description": "what is kept of a message it matches, and of the answer"},
            "reply": {"enum": list(REPLIES), "description": "of a block, how it says no"},
            "keep": {**DURATION, "description": "how long the record keeps sessions it decided or masked in"},
        },
        "id",
        "do",
    )
    approve = {"properties": {"do": {"const": "approve"}}, "required": ["do"]}
    mask = {"properties": {"do": {"const": "mask"}}, "required": ["do"]}
    rule["allOf"] = [
        {"if": approve, "then": {"required": ["approvers"]}},
        {"if": mask, "then": {"required": ["when"]}},
    ]
    return rule


def _when() -> Json:
    keys: Json = {}
    for name in dict.fromkeys(name for known in PROTOCOLS.values() for name in known):
        same = [known[name] for known in PROTOCOLS.values() if name in known]
        words = tuple(dict.fromkeys(word for key in same for word in key.words))
        says = "; or ".join(dict.fromkeys(key.says for key in same))
        keys[name] = _condition(msgspec.structs.replace(same[0], words=words, says=says))
    detect = {"anyOf": [{"enum": list(BUILT_IN)}, TEXT], "description": "or a name of `patterns`"}
    return {**_closed({**keys, "detect": _many(detect)}), "minProperties": 1}


def _condition(key: Key) -> Json:
    says = {"description": key.says}
    if key.kind == "number":
        range_ = {**_closed(dict.fromkeys(("gt", "ge", "lt", "le"), WHOLE)), "minProperties": 1}
        return {"anyOf": [WHOLE, range_], **says}
    if key.kind == "leaves":
        bound = {**_closed({name: {"type": "number"} for name in ("gt", "ge", "lt", "le")}), "minProperties": 1}
        path = {"type": "string", "pattern": r"^\$"}
        tests = {"type": "object", "additionalProperties": {"anyOf": [_many(LEAF), bound]}, "minProperties": 1}
        return {"anyOf": [*_many(path)["anyOf"], tests], **says}
    if key.kind == "statements":
        inner = {name: _condition(one) for d in DIALECTS for name, one in PROTOCOLS[d].items() if one.kind in WORDS}
        return {**_closed({"field": TEXT, "dialect": {"enum": list(DIALECTS)}, **inner}, "field", "dialect"), **says}
    if key.kind == "word":
        starred = {"type": "string", "pattern": r"\*"}
        return {**_many({"anyOf": [{"enum": list(key.words)}, starred]}), **says}
    return {**_many(_like(key.form) if key.form else TEXT), **says}


def _tests() -> Json:
    keys = {"text", "unknown", *(name for known in PROTOCOLS.values() for name in known)}
    value = {"type": ["string", "number", "boolean", "null"]}
    process = {**dict.fromkeys(TEXTS, TEXT), "uid": WHOLE, "parents": _many(TEXT)}
    test = _closed(
        {
            **dict.fromkeys(("name", "identity", "target", "statement", "rule"), TEXT),
            "process": _closed(process),
            "protocol": {"enum": list(PROTOCOLS)},
            "before": _many(TEXT),
            "request": _closed({key: _many({"type": ["string", "integer"]}) for key in sorted(keys)}),
            "row": {"type": "object", "additionalProperties": value},
            "shows": {"type": "object", "additionalProperties": value},
            "expect": {"enum": list(VERDICTS)},
        },
        "expect",
    )
    return _closed({"tests": {"type": "array", "items": test}}, "tests")


def _recording(path: Json) -> Json:
    place = {"to": TEXT, "region": TEXT, "credentials": path}
    command = _many({"type": "string"})
    anchor = {**place, "command": command, "syslog": {"type": "boolean"}, "every": DURATION}
    found: Json = {
        "level": {"enum": ["full", "requests", "metadata"]},
        "retention": DURATION,
        "max_bytes": SIZE,
        "required": {"type": "boolean"},
        "sync": {"anyOf": [{"const": "always"}, DURATION]},
        "checkpoint": DURATION,
        "ship": _closed(place, "to"),
        "anchor": {**_closed(anchor), "minProperties": 1},
    }
    return _closed(found)


def _settings() -> Json:
    path = {"type": "string", "pattern": "^/"}
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    workers = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}
    pending = {"type": "integer", "minimum": 1}
    found: Json = {
        "slice": TEXT,
        **dict.fromkeys(("cgroup_root", "rules", "state_dir", "runtime_dir"), path),
        "relay": _closed({"port": port, "workers": workers, "user": TEXT, "drain": DURATION}),
        "record": _recording(path),
        "approvals": _closed({"max_pending": pending, "max_pending_per_process": pending}),
        "authority": _closed({"names": {"type": "array", "items": TEXT, "minItems": 1}}),
        "on_failure": {"enum": ["closed", "open"]},
        "existing_connections": {"enum": ["drop", "keep"]},
        "unix": {"anyOf": [{"const": "any"}, {"type": "array", "items": {"type": "string", "pattern": "^[/@]"}}]},
    }
    assert set(found) == set(Settings.__struct_fields__), "a setting without a schema"
    return _closed(found)
