"""`record:` of a rule: how much is kept of what it matches."""

import jsonschema
import pytest
import yaml

from appliance.config.schema import schema
from appliance.model import ConfigError
from tests.policy.given import policy


@pytest.mark.parametrize("level", ["full", "requests", "metadata"])
@pytest.mark.parametrize("do", ["do: allow", "do: block", "do: approve, approvers: {group: dba}", "do: mask"])
def test_any_rule_may_say_what_is_kept(do: str, level: str) -> None:
    text = f"rules: [{{id: a, when: {{column: public.users.ssn}}, {do}, record: {level}}}]"
    assert policy(text).rules[0].record == level
    jsonschema.validate(yaml.safe_load(text), schema())


def test_without_a_word_the_settings_say() -> None:
    assert policy("rules: [{id: a, do: allow}]").rules[0].record == ""


def test_another_word_is_an_error_with_its_place() -> None:
    with pytest.raises(ConfigError, match="rule a: record"):
        policy("rules: [{id: a, do: allow, record: none}]")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rules": [{"id": "a", "do": "allow", "record": "none"}]}, schema())


def test_what_is_not_inspected_is_not_recorded() -> None:
    with pytest.raises(ConfigError, match="can never take effect: what is not inspected is not recorded"):
        policy('rules: [{id: a, to: "10.0.0.1:443", do: allow, inspect: false, record: full}]')
