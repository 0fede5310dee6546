"""JSON Schemas: sound themselves, and in agreement with the check."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from appliance.config import schema
from appliance.facts.words import PROTOCOLS

from .test_rules import DESIGN, GOLDEN
from .test_settings import DESIGN as SETTINGS

PACKS = sorted((Path(__file__).parents[2] / "rules").glob("*.yaml"))

# what an editor cannot see: names that are defined elsewhere, order, words in a context
BEYOND = {
    "bad-port", "bad-port-range", "bad-inline", "host-bits", "bad-count", "detect-in-allow", "hidden-by-all",
    "hidden-by-the-same",
    "hidden-by-wider-to", "hidden-by-wider-who", "id-default", "identity-cgroup-absolute", "keep-for-ever",
    "leaves-none-fits", "reuse-for-ever", "within-for-ever",
    "identity-name", "inspect-where-masked", "inspect-with-when", "inspect-without-to", "mask-without-columns", "on-incident-direct",
    "not-yaml", "packet-mask-length", "packet-mode-datagrams", "packet-mode-tls", "pattern-bad", "pattern-built-in", "same-id", "same-key", "shadow-yes", "target-address",
    "target-unresolved", "tls-name", "tls-pass-and-ca", "too-many-parts", "unknown-detector", "unknown-identity", "unknown-target", "with-of-block",
}  # fmt: skip


def errors(document: Any, of: Any = "rules") -> list[str]:
    return [e.message for e in jsonschema.Draft202012Validator(schema(of)).iter_errors(document)]


@pytest.mark.parametrize("of", ["rules", "tests", "settings"])
def test_it_is_a_schema(of: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(of))


def test_the_examples_of_the_design() -> None:
    assert errors(yaml.safe_load(DESIGN)) == []
    assert errors(yaml.safe_load(SETTINGS), "settings") == []


@pytest.mark.parametrize("path", PACKS, ids=lambda p: p.name)
def test_the_packs(path: Path) -> None:
    of = "tests" if path.name.endswith(".test.yaml") else "rules"
    assert errors(yaml.safe_load(path.read_text()), of) == []


@pytest.mark.parametrize("path", [p for p in GOLDEN if p.stem not in BEYOND], ids=lambda p: p.stem)
def test_it_marks_what_is_wrong(path: Path) -> None:
    assert errors(yaml.safe_load(path.read_text()))


def test_every_key_is_in_it() -> None:
    when = schema()["properties"]["rules"]["items"]["properties"]["when"]["properties"]
    keys = {key for known in PROTOCOLS.values() for key in known}
    assert set(when) == {*keys, "detect"}
    assert all("description" in when[key] for key in keys)
