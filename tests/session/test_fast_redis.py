"""What is kept for speed of a Redis flow changes nothing, nor does how a reply is cut.

As test_fast.py. Kept are facts by their shape (facts/redis/reader.py). Replies of one value are taken at once
(wire/redis/short.py), which comes to what the general way comes to.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.facts.readers import Shared
from appliance.facts.redis import reader
from appliance.model import Answered, Ask, Effect, Note, Received, Send
from appliance.record.frame import Frame, pack
from appliance.session import Session
from appliance.wire.redis import answers
from tests.session.test_redis import FLOW, C, S, rules
from tests.wire.redis.dialogues import HELLO_3, OK, QUEUED, bulk, cmd, many, strings

SETS = [
    """
  - {id: no-flush, to: cache, when: {effect: [flush, admin]}, do: block}
  - {id: ask, to: cache, when: {effect: delete}, do: approve, approvers: {group: ops, within: 60s, reuse: session}}
  - {id: hide, to: cache, when: {key: "user:*"}, do: mask, with: keep-last-4}
  - {id: rest, to: cache, do: allow}
""",
    """
  - {id: cards, when: {detect: [credit_card]}, do: block}
  - {id: emails, when: {detect: [email]}, do: mask, with: redact}
  - {id: seen, when: {key: ["user:*"]}, do: block, shadow: true}
  - {id: quiet, when: {key: ["n"]}, do: allow, record: metadata}
  - {id: rest, do: allow}
""",
    """
  - {id: second, to: cache, when: {database: ["1"], effect: write}, do: block}
  - {id: several, to: cache, when: {count: 3}, do: block}
  - {id: rest, to: cache, do: allow}
""",
]
POLICIES = [rules(text) for text in SETS]
KEYS, VALUES = ["a", "n", "user:1", "user:2"], ["v", "", "4111 1111 1111 1111", "dana@example.org", "long " * 20]
key, value = st.sampled_from(KEYS), st.sampled_from(VALUES)
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(["GET", "get", "STRLEN", "GETDEL", "INCR", "DEL", "TTL", "HGETALL", "LRANGE"]), key),
    st.tuples(st.sampled_from(["SET", "APPEND", "GETSET"]), key, value),
    st.tuples(st.just("SET"), key, value, st.just("GET")),
    st.tuples(st.just("MGET"), key, key, key),
    st.tuples(st.just("COPY"), key, key, st.just("DB"), st.sampled_from(["0", "1"])),
    st.tuples(st.just("SELECT"), st.sampled_from(["0", "1"])),
    st.tuples(st.sampled_from(["PING", "MULTI", "EXEC", "DISCARD", "FLUSHALL", "NOSUCH", "SUBSCRIBE"])),
    st.tuples(st.just("EVAL"), st.just("return redis.call('get', KEYS[1])"), st.just("1"), key),
    st.tuples(st.just("CLIENT"), st.just("REPLY"), st.sampled_from(["ON", "OFF", "SKIP"])),
    st.tuples(st.just("HELLO"), st.just("3")),
)
STEPS = st.one_of(
    st.tuples(st.just("say"), st.lists(COMMANDS, min_size=1, max_size=4)),
    st.tuples(st.just("rules"), st.integers(0, len(SETS) - 1)),
)
Step = tuple[object, ...]


class Server:
    """Answers what goes up, as far as the scripts need."""

    def __init__(self) -> None:
        self._queued: list[bytes] | None = None

    def says(self, data: bytes) -> bytes:
        out = b""
        while data:
            words, data = parted(data)
            out += self._queues(words)
        return out

    def _queues(self, words: list[bytes]) -> bytes:
        name = words[0].upper()
        if name == b"MULTI":
            self._queued = []
            return OK
        if self._queued is None or name in (b"EXEC", b"DISCARD"):
            queued, self._queued = self._queued, None
            if name == b"EXEC":
                return many("*", *queued) if queued is not None else b"-ERR EXEC without MULTI\r\n"
            return self._reply(name, words)
        self._queued.append(self._reply(name, words))
        return QUEUED

    def _reply(self, name: bytes, words: list[bytes]) -> bytes:
        match name:
            case b"GET" | b"GETDEL" | b"GETSET" | b"EVAL":
                return bulk(None) if words[1] == b"n" else bulk(b"value of " + words[1] + b" dana@example.org")
            case b"STRLEN" | b"INCR" | b"DEL" | b"TTL" | b"APPEND" | b"COPY":
                return b":17\r\n"
            case b"SET":
                return bulk("old value") if len(words) > 3 else OK
            case b"MGET":
                return strings("first", None, "third")
            case b"HGETALL" | b"LRANGE":
                return strings("field", "value", "other", "value of it")
            case b"COMMAND":
                return strings("user:1")
            case b"HELLO":
                return HELLO_3
            case b"PING":
                return b"+PONG\r\n"
            case b"SELECT" | b"DISCARD" | b"FLUSHALL" | b"CLIENT":
                return OK
            case b"SUBSCRIBE":
                return b"-ERR not here\r\n"
        return b"-ERR unknown command\r\n"


def parted(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the words of a command, and what is behind it."""
    number, _, data = data[1:].partition(b"\r\n")
    words = []
    for _ in range(int(number)):
        size, _, data = data[1:].partition(b"\r\n")
        words.append(data[: int(size)])
        data = data[int(size) + 2 :]
    return words, data


class Run:
    """One script in one session; replies come in pieces of `piece` bytes, 0 for whole."""

    def __init__(self, piece: int = 0) -> None:
        self._policy, self._piece = POLICIES[0], piece
        self._session = Session(FLOW, lambda: self._policy, Shared())
        self._server, self._asked = Server(), 0
        self.effects: list[Effect] = list(self._session.start(0.0, 1_700_000_000.0))

    def step(self, step: Step) -> None:
        match step:
            case ("rules", int(number)):
                self._policy = POLICIES[number]
            case ("say", list(commands)):
                self._perform(self._session.receive(Received(C, b"".join(cmd(*words) for words in commands)), 1.0))

    def _perform(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Ask):
                self._asked += 1
                answer = Answered(effect.question.id, approved=self._asked % 2 == 0, by="dana")
                self._perform(self._session.receive(answer, 1.0))
        up = b"".join(effect.data for effect in effects if isinstance(effect, Send) and effect.to is S)
        down = self._server.says(up)
        for at in range(0, len(down), self._piece or max(len(down), 1)):
            self._perform(self._session.receive(Received(S, down[at : at + (self._piece or len(down))]), 1.0))


def play(script: list[Step], piece: int = 0) -> list[Effect]:
    run = Run(piece)
    for step in script:
        run.step(step)
    return run.effects


def notes(effects: list[Effect]) -> list[Note]:
    return [effect for effect in effects if isinstance(effect, Note)]


SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SLOW
@given(script=st.lists(STEPS, min_size=1, max_size=8))
def test_what_is_kept_changes_nothing(script: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [*script, *script]
    fast = play(twice)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "MAX_SHAPES", 0)
        patch.setattr(answers, "short", lambda inbox, link, head: None)
        plain = play(twice)
    assert fast == plain
    assert [pack(Frame(1, 0.0, "f", n)) for n in notes(fast)] == [pack(Frame(1, 0.0, "f", n)) for n in notes(plain)]


@SLOW
@given(script=st.lists(STEPS, min_size=1, max_size=6), piece=st.integers(1, 9))
def test_how_replies_are_cut_changes_nothing_of_what_goes_down(script: list[Step], piece: int) -> None:
    whole, cut = (
        b"".join(e.data for e in play(script, size) if isinstance(e, Send) and e.to is C) for size in (0, piece)
    )
    assert whole == cut


GETS: list[Step] = [("say", [("GET", "user:1")])] * 5 + [("say", [("SET", "a", str(n))]) for n in range(5)]


def test_commands_of_one_shape_are_judged_once_and_their_values_are_still_told(judged: list[str]) -> None:
    decided = [note.text for note in notes(play(GETS)) if note.kind == "decision"]
    assert decided == ["GET user:1"] * 5 + [f"SET a {n}" for n in range(5)]
    assert len(judged) == 4, "the first of a shape, and the next that has it"


def test_another_user_or_database_is_another_shape() -> None:
    write: Step = ("say", [("SET", "a", "1")])
    script: list[Step] = [("rules", 2), write, write, ("say", [("SELECT", "1")]), write, write, ("say", [("SELECT", "0")]), write]
    verdicts = [n.decision.verdict for n in notes(play(script)) if n.decision and n.text.startswith("SET")]
    assert verdicts == ["allow", "allow", "block", "block", "allow"]


@pytest.mark.parametrize("limit", ["MAX_SHAPES", "MAX_KEPT"])
def test_limits_of_what_is_kept(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Step] = [("say", [("GET", one), ("SET", one, more)]) for one in KEYS for more in VALUES] * 2
    whole = play(script)
    monkeypatch.setattr(reader, limit, 1)
    assert play(script) == whole


def test_a_flow_keeps_no_more_shapes_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_SHAPES", 3)
    monkeypatch.setattr(reader, "MAX_KEPT", 20)
    run = Run()
    for n in range(9):
        run.step(("say", [("GET", f"k{n}"), ("SET", "k", "x" * 20)]))
    shapes = run._session._reader._shapes  # type: ignore[union-attr]
    assert 0 < len(shapes) <= 3 and not any(shape[0] == "SET" for shape in shapes)
