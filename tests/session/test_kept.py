"""What a session tells the record: where time went, what was touched, how much is to be kept, and never a secret."""

import itertools
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.facts import Facts
from appliance.facts.readers import Shared
from appliance.model import Answered, Ask, Column, Decision, Effect, Named, Note, Received, Spent
from appliance.policy import MaskPlan, Policy
from appliance.policy.detect import Detectors
from appliance.record.log import kept
from appliance.session import Session, secret
from appliance.session.level import STRICT, Levels, strictest
from appliance.session.meter import Meter
from appliance.session.secret import veil, veil_raw
from appliance.session.told import MAX_COLUMNS, MAX_KEPT, MAX_VALUES, Telling, told
from tests.session import pg
from tests.session.playbook import Playbook
from tests.session.test_session import FLOW, HEAD, C, S

RULES = """
  - {id: audit, to: db, when: {table: audit}, do: allow, record: full}
  - {id: quiet, to: db, when: {table: noise}, do: allow, record: metadata}
  - {id: asks, to: db, when: {table: private}, do: allow, record: requests}
  - {id: held, to: db, when: {effect: [drop]}, do: approve, approvers: {group: dba, within: 60s}}
  - {id: hide, to: db, when: {column: [public.users.ssn]}, do: mask, with: redact, record: requests}
  - {id: rest, to: db, do: allow}
"""


def rules(text: str = RULES) -> Policy:
    return config.rules([("rules.d/test.yaml", HEAD + text)], lambda name: [name])


def notes(effects: list[Effect]) -> list[Note]:
    return [effect for effect in effects if isinstance(effect, Note)]


class Talk(Playbook):
    """A session past its login; `says` and `hears` return the notes."""

    def __init__(self, text: str = RULES, ticks: Iterator[float] | None = None) -> None:
        fixed = rules(text)
        clock = (lambda: next(ticks)) if ticks else None
        super().__init__(Session(FLOW, lambda: fixed, Shared(), clock))
        self.take()
        self.says(pg.startup())
        self.hears(pg.WELCOME)

    def says(self, data: bytes) -> list[Note]:
        self >> Received(C, data)
        return notes(self.take())

    def hears(self, data: bytes) -> list[Note]:
        self >> Received(S, data)
        return notes(self.take())

    def asks(self, text: str) -> list[Note]:
        """Send a query; answer what the session itself asks before it."""
        found = self.says(pg.query(text))
        return found or self.hears(pg.state_answer())


# -- levels -----------------------------------------------------------------------------------------------------


VERBS = """
  - {id: audit, when: {statement: [INSERT]}, do: allow, record: full}
  - {id: quiet, when: {statement: [DELETE]}, do: allow, record: metadata}
  - {id: asks, when: {statement: [UPDATE]}, do: allow, record: requests}
  - {id: never, when: {statement: [TRUNCATE TABLE]}, do: block, record: metadata}
  - {id: rest, do: allow}
"""


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("insert into t values (1)", "full"),
        ("delete from t", "metadata"),
        ("update t set a = 1", "requests"),
        ("truncate t", "metadata"),
        ("select 1", ""),
    ],
)
def test_a_rule_sets_the_level_of_its_message_and_of_the_answer(text: str, level: str) -> None:
    talk = Talk(VERBS)
    said = talk.asks(text)
    assert {note.kind for note in said} == {"message", "decision"}
    assert {note.level for note in said} == {level}
    answer = pg.error("42601", "syntax error") + pg.ready() if "truncate" in text else pg.SELECTED
    assert {note.level for note in talk.hears(answer)} == {level}
    assert {note.level for note in talk.says(pg.query("select 2"))} == {""}, "the server owes nothing: it is over"


def test_copied_rows_have_the_level_of_their_statement() -> None:
    talk = Talk("  - {id: load, when: {copy: in}, do: allow, record: metadata}\n  - {id: rest, do: allow}\n")
    talk.asks("copy t from stdin")
    talk.hears(pg.message("G", b"\0\0\1\0\0"))
    (rows,) = talk.says(pg.message("d", b"secret\n"))
    assert (rows.message, rows.level) == ("copy-data", "metadata")
    assert kept(rows, "full") == (msgspec.structs.replace(rows, raw=b""), len(rows.raw))


def test_a_mask_that_applies_may_keep_less() -> None:
    policy = rules()
    server = FLOW.server
    who = policy.identify(FLOW.process)
    reads = Facts("postgres", {"effect": frozenset({"read"}), "table": frozenset({"public.users"})})
    assert policy.decide(who, server, reads).record == "requests"
    other = Facts("postgres", {"effect": frozenset({"read"}), "table": frozenset({"public.t"})})
    assert policy.decide(who, server, other).record == ""
    noisy = Facts("postgres", {"table": frozenset({"public.users", "public.noise"})})
    assert policy.decide(who, server, noisy).record == "requests"


def test_answers_of_a_pipeline_are_kept_as_its_strictest_request() -> None:
    levels = Levels()
    assert levels.joint == ""
    levels.judged("full", idle=True)
    assert levels.joint == "full"
    levels.judged("requests", idle=False)
    assert levels.joint == "requests"
    levels.judged("metadata", idle=False)
    levels.judged("full", idle=False)
    assert levels.joint == "metadata"
    levels.judged("full", idle=True)
    assert levels.joint == "full"


def test_the_level_of_the_settings_counts_as_the_strictest_where_it_could_be() -> None:
    assert strictest({""}) == ""
    assert strictest({"", "full"}) == ""
    assert strictest({"", "metadata"}) == "metadata"
    assert strictest({"", "requests"}) == "metadata"


@given(st.sets(st.sampled_from(["", *STRICT]), min_size=1), st.sampled_from(STRICT))
def test_nothing_is_kept_that_one_request_would_not_keep(levels: set[str], default: str) -> None:
    joint = strictest(levels) or default
    assert all(STRICT.index(joint) >= STRICT.index(level or default) for level in levels)


@pytest.mark.parametrize("default", STRICT)
def test_the_level_of_a_note_goes_before_that_of_the_settings(default: str) -> None:
    for level in STRICT:
        for side, what in ((C, "query"), (S, "row")):
            note = Note("message", "x", side, what, b"raw", level=level)
            plain, dropped = kept(msgspec.structs.replace(note, level=""), level)  # type: ignore[arg-type]
            assert kept(note, default) == (msgspec.structs.replace(plain, level=level), dropped)  # type: ignore[arg-type]
    for kind in ("incident", "answered", "opened", "closed"):
        note = Note(kind, "x", level="metadata")  # type: ignore[arg-type]
        assert kept(note, default) == (note, 0)  # type: ignore[arg-type]
    decided = Note("decision", "drop table t", decision=Decision("block", "r"), level="metadata", facts=(("table", ("t",)),))
    stays, _ = kept(decided, default)  # type: ignore[arg-type]
    assert stays.decision == decided.decision and stays.facts == decided.facts and stays.text == ""


# -- secrets ----------------------------------------------------------------------------------------------------

SECRETS = [
    "alter role a password 'hunter2'",
    "ALTER USER a WITH ENCRYPTED PASSWORD 'hunter2' VALID UNTIL 'infinity'",
    "create user a password e'hunter2'",
    "create role a password $x$hunter2$x$",
    "set password for a = password('hunter2')",
    "set password = 'hunter2'",
    "create user a identified by 'hunter2'",
    "alter user a identified with mysql_native_password as 'hunter2'",
    "create user mapping for a server s options (user 'a', password 'hunter2')",
    "select dblink('host=h user=a password=hunter2 dbname=d')",
    "create subscription s connection 'postgresql://a:hunter2@h/d' publication p",
    "copy t from program 'curl -H \"x\" https://a:hunter2@h/'",
    "select http('h', '\nAuthorization: Bearer hunter2\n')",
    "select http('h', '\nCookie: session=hunter2\n')",
    "create secret (type s3, secret_access_key 'hunter2')" .replace("key '", "key = '"),
    "select vault('token=hunter2')",
    "alter role a password 'hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_in_a_statement_is_overwritten(text: str) -> None:
    assert "hunter2" not in veil(text)
    assert len(veil(text)) == len(text)
    assert b"hunter2" not in veil_raw(pg.query(text))
    assert len(veil_raw(pg.query(text))) == len(pg.query(text))
    assert veil_raw(pg.query(text)) == pg.query(veil(text))


@pytest.mark.parametrize(
    "text",
    ["select 1", "select password from users", "select * from tokens where id = 'x'", "select 'a://b'", "update t set api = 'x'",
     "select 'the password is in the safe'", "insert into secrets values ('x')"],
)  # fmt: skip
def test_other_statements_stay_as_they_are(text: str) -> None:
    assert veil(text) == text and veil_raw(pg.query(text)) == pg.query(text)


def test_a_secret_is_in_no_note_and_goes_up_all_the_same() -> None:
    talk = Talk("  - {id: rest, do: allow}\n")
    sql = "alter role a password 'hunter2'"
    talk.asks("select 1")
    talk.hears(pg.SELECTED)
    talk >> Received(C, pg.query(sql))
    effects = talk.take()
    assert any(pg.query(sql) == getattr(effect, "data", b"") for effect in effects)
    assert "hunter2" not in repr(notes(effects))
    assert notes(effects)[0].text == notes(effects)[1].text == f"alter role a password {'*' * 9}"


def test_a_held_secret_is_shown_to_the_reviewer_and_not_recorded() -> None:
    talk = Talk("  - {id: all, do: approve, approvers: {group: dba, within: 60s}}\n")  # a login is allowed by HEAD
    sql = "alter role a password 'hunter2'"
    talk >> Received(C, pg.query(sql))
    found = talk.take()
    if not notes(found):
        talk >> Received(S, pg.state_answer())
        found = talk.take()
    (question,) = [effect.question for effect in found if isinstance(effect, Ask)]
    assert question.raw == pg.query(sql)
    assert "hunter2" not in repr(notes(found))


def test_max_places_bounds_the_work_on_a_statement_full_of_words() -> None:
    assert (secret.MAX_PLACES, secret.BEFORE, secret.AFTER) == (8, 128, 2048)
    text = "select " + "password token secret api " * 100_000 + "password 'x'"
    began = time.process_time()
    veil(text)
    veil_raw(text.encode())
    assert time.process_time() - began < 5, "some thousand characters are looked at, not millions"


@given(st.text(alphabet="pasword='\" \\$x:/@İß\0", max_size=200))
def test_overwriting_keeps_the_length(text: str) -> None:
    assert len(veil("password" + text)) == len(text) + 8
    raw = ("token=" + text).encode("utf-8")
    assert len(veil_raw(raw)) == len(raw)


# -- time -------------------------------------------------------------------------------------------------------


def test_the_time_of_a_message_is_split() -> None:
    talk = Talk("  - {id: rest, do: allow}\n", ticks=itertools.count(0.0, 1.0))
    talk.asks("select 1")
    talk.hears(pg.SELECTED)
    asked = talk.says(pg.query("select 1"))[0]
    assert asked.spent and asked.spent.parse > 0 and asked.spent.policy > 0
    assert (asked.spent.hold, asked.spent.upstream) == (0.0, 0.0)
    first, *others = talk.hears(pg.SELECTED)
    assert first.spent and first.spent.upstream > 0 and first.spent.parse > 0
    assert all(note.spent is None or note.spent.upstream == 0 for note in others), "the wait is counted once"


def test_without_a_clock_the_server_and_the_reviewer_are_measured() -> None:
    talk = Talk("  - {id: ask, when: {statement: [DELETE]}, do: approve, approvers: {group: dba, within: 60s}}\n  - {id: rest, do: allow}\n")
    talk.asks("select 1")
    talk.hears(pg.SELECTED)
    talk >> Received(C, pg.query("delete from t"))
    (question,) = [effect.question for effect in talk.take() if isinstance(effect, Ask)]
    talk.wait(12.5) >> Answered(question.id, True, "eve")
    answered, *_ = notes(talk.take())
    assert answered.kind == "answered" and answered.spent == Spent(hold=12.5)
    talk.wait(0.25)
    answer, *_ = talk.hears(pg.complete("DELETE 1") + pg.ready())
    assert answer.spent == Spent(upstream=0.25)


def test_a_meter_hands_over_what_it_measured_once() -> None:
    meter = Meter(iter(range(100)).__next__)  # type: ignore[arg-type]
    meter.begun(0.0)
    meter.judging()
    assert meter.judged() == Spent(parse=1.0, policy=1.0)
    assert meter.answered() == Spent(parse=1.0), "what is behind a request is of the next"
    meter.begun(1.0)
    meter.sent()
    meter.begun(2.0)
    assert meter.answered() == Spent(parse=1.0, upstream=1.0)
    assert Meter(None).answered() is None


# -- facts ------------------------------------------------------------------------------------------------------


def test_a_request_tells_what_it_touches_and_not_what_it_says() -> None:
    talk = Talk("  - {id: rest, do: allow}\n")
    talk.asks("select 1")
    talk.hears(pg.SELECTED)
    asked, decided = talk.says(pg.query("select name from users where ssn = 'secret value'"))
    found = dict(asked.facts)
    assert found["effect"] == ("read",) and found["statement"] == ("SELECT",)
    assert any("users" in name for name in found["table"])
    assert "text" not in found and "secret value" not in repr(asked.facts)
    assert decided.facts == ()


def test_what_is_not_known_is_told() -> None:
    talk = Talk("  - {id: rest, do: allow}\n")
    talk.asks("select 1")
    talk.hears(pg.SELECTED)
    asked, _ = talk.says(pg.query("selec broken"))
    assert "table" in dict(asked.facts)["unknown"]


def test_max_values_bounds_what_is_told_of_a_key() -> None:
    assert (MAX_VALUES, MAX_KEPT, MAX_COLUMNS) == (100, 64, 4096)
    many = Facts("postgres", {"table": frozenset(f"t{n:03d}" for n in range(101)), "effect": frozenset({"read"})})
    found = dict(told(many))
    assert len(found["table"]) == 100 and found["unknown"] == ("table",)
    telling = Telling()
    for number in range(200):
        telling.facts(Facts("postgres", {"table": frozenset({f"t{number}"})}))
        assert len(telling._kept) <= MAX_KEPT


def test_columns_are_told_once_and_again_when_they_changed() -> None:
    def told_of(named: dict[Column, tuple[str, ...]]) -> MaskPlan:
        plan = MaskPlan((), Facts("postgres", {}), lambda column: None, Detectors((), {}), b"")
        plan.named = named
        return plan

    telling, column = Telling(), Column("ssn", 16_400, 3)
    for names, expected in ((("a.b.c",), 1), (("a.b.c",), 0), (("a.b.d",), 1)):
        news = telling.columns([told_of({column: names})])
        assert news == ((Named(column, names),) if expected else ())
    for number in range(MAX_COLUMNS + 10):
        telling.columns([told_of({Column("x", number): ("a.b.x",)})])
        assert len(telling._columns) <= MAX_COLUMNS
