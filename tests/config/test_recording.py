"""The settings below `record:`."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from appliance.config import Anchor, Place, Record, rules, schema, settings
from appliance.config.recording import MAX_CHECKPOINT_S, MAX_SYNC_S, MAX_WORDS, MIN_SYNC_S
from appliance.model import ConfigError
from appliance.policy import Policy


def record(text: str) -> Record:
    return settings("v.yaml", f"record: {text}").record


def test_the_defaults() -> None:
    said = settings("v.yaml", "").record
    assert (said.sync_s, said.checkpoint_s, said.ship, said.anchor) == (5.0, 10.0, None, None)


GOOD = {
    "{sync: always}": Record(sync_s=0.0),
    "{sync: 1s}": Record(sync_s=1.0),
    "{checkpoint: 1m}": Record(checkpoint_s=60.0),
    "{ship: {to: /mnt/archive/}}": Record(ship=Place("/mnt/archive")),
    "{ship: {to: 'https://s3.example/bucket/a/', region: eu-west-1, credentials: /etc/vendorgate/s3.key}}": Record(
        ship=Place("https://s3.example/bucket/a", "eu-west-1", Path("/etc/vendorgate/s3.key"))
    ),
    "{anchor: {command: [/usr/bin/notarise, --now], every: 10m}}": Record(
        anchor=Anchor(("/usr/bin/notarise", "--now"), every_s=600.0)
    ),
    "{anchor: {command: /usr/bin/notarise, syslog: true}}": Record(anchor=Anchor(("/usr/bin/notarise",), syslog=True)),
    "{anchor: {to: /mnt/anchors}}": Record(anchor=Anchor(place=Place("/mnt/anchors"))),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_may_be_written(text: str) -> None:
    assert record(text) == GOOD[text]
    jsonschema.validate(yaml.safe_load(f"record: {text}"), schema("settings"))


BAD = {
    "{sync: never}": "record.sync: `never` is not a duration",
    "{sync: 61s}": "record.sync: `61s` is not from 1 s to 60 s\nhint: write always, or 1s to 60s",
    "{checkpoint: 2h}": "record.checkpoint: `2h` is not from 1 s to 3600 s",
    "{ship: {region: x}}": "record.ship: does not say where to\nhint: write to: and a directory or an URL",
    "{ship: {to: archive}}": "record.ship.to: `archive` is no place to send to",
    "{ship: {to: 'https://s3.example/'}}": "record.ship.to: `https://s3.example/` is no place to send to",
    "{ship: {to: 'https://s3.example/b'}}": "record.ship: has no credentials",
    "{anchor: {every: 1h}}": "record.anchor: tells nobody\nhint: write command:, syslog: true, or to:",
    "{anchor: {command: notarise}}": "record.anchor.command: not a program's path and its arguments",
    "{anchor: {syslog: true, every: 2d}}": "record.anchor.every: `2d` is not from 1 s to 86400 s",
    "{anchor: {sylog: true}}": "hint: did you mean `syslog`?",
}


@pytest.mark.parametrize("text", BAD)
def test_what_may_not(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        record(text)
    assert str(caught.value).startswith("v.yaml:1: ")
    assert BAD[text] in str(caught.value)


def test_the_limits_by_name() -> None:
    assert (MIN_SYNC_S, MAX_SYNC_S, MAX_CHECKPOINT_S, MAX_WORDS) == (1, 60, 3600, 32)
    words = "[/bin/x" + ", y" * MAX_WORDS + "]"
    with pytest.raises(ConfigError, match="not a program"):
        record(f"{{anchor: {{command: {words}}}}}")


def judged(text: str) -> Policy:
    return rules((("10.yaml", text),), lambda name: ())


RULE = "rules: [{{id: r, do: {do}, keep: {keep}{more}}}]"


def test_a_rule_says_how_long_its_sessions_are_kept() -> None:
    policy = judged(RULE.format(do="block", keep="90d", more=""))
    assert policy.rules[0].keep_s == 90 * 86400
    assert judged("rules: [{id: r, do: block}]").rules[0].keep_s == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RULE.format(do="block", keep="soon", more=""), "rule r: keep: `soon` is not a duration above zero"),
        (
            RULE.format(do="allow", keep="1d", more=", to: 10.0.0.0/8, inspect: false"),
            "rule r: can never take effect: what is not inspected is not recorded",
        ),
    ],
)
def test_a_keep_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        judged(text)
    assert says in str(caught.value)
