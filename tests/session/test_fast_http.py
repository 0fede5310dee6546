"""What is kept of HTTP requests changes nothing: the same script with and without it comes to the same effects."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import config
from appliance.facts.http import reader
from appliance.facts.readers import Shared
from appliance.model import Answered, Ask, Effect, Note, Received, Send
from appliance.policy import Policy
from appliance.record.frame import Frame, pack
from appliance.session import Session
from appliance.wire.http import connection
from tests.session.test_session import FLOW, C, S
from tests.wire.http.dialogues import ask, sized

HEAD = """
identities: {acme: {cgroup: acme.service}}
targets: {web: {protocol: http, address: ["10.0.0.9:5432"]}}
rules:
"""
SETS = [
    """
  - {id: gone, when: {method: DELETE}, do: block}
  - {id: big, when: {json: {"$.amount": {gt: 10}}}, do: approve, approvers: {group: dba, within: 60s, reuse: session}}
  - {id: hide, when: {json: ["$.ssn"]}, do: mask, with: redact}
  - {id: rest, when: {path: "/**"}, do: allow}
""",
    """
  - {id: cards, when: {detect: [credit_card]}, do: block}
  - {id: emails, when: {detect: [email]}, do: mask, with: redact}
  - {id: quiet, when: {path: /quiet}, do: allow, record: metadata}
  - {id: seen, when: {header: "x-team: *"}, do: block, shadow: true}
  - {id: rest, do: allow}
""",
]
JSON = "Content-Type: application/json"
REQUESTS = [
    ask(),
    ask("DELETE /a HTTP/1.1"),
    ask("GET /quiet HTTP/1.1", "X-Team: red", "Authorization: Bearer abc"),
    ask("GET /quiet HTTP/1.1", "X-Team: blue", "Authorization: Bearer abd"),
    *(
        ask("POST /pay HTTP/1.1", JSON, f"Content-Length: {len(body)}", body=body)
        for body in (b'{"amount": 5}', b'{"amount": 50}', b'{"card": "4111 1111 1111 1111"}', b"{")
    ),
]
ANSWER = sized(b'{"ssn": "123-45-6789", "mail": "dana@example.org"}', JSON)
STEPS = st.one_of(st.sampled_from(REQUESTS), st.integers(0, len(SETS) - 1))
POLICIES: list[Policy] = [config.rules([("rules.d/test.yaml", HEAD + text)], lambda name: [name]) for text in SETS]


class Run:
    """One script in one session; the server answers what reaches it."""

    def __init__(self) -> None:
        self.policy, self.asked = POLICIES[0], 0
        self._session = Session(FLOW, lambda: self.policy, Shared())
        self.effects: list[Effect] = list(self._session.start(0.0, 1_700_000_000.0))

    def perform(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Ask):
                self.asked += 1
                answer = Answered(effect.question.id, approved=self.asked % 2 == 0, by="dana")
                self.perform(self._session.receive(answer, 1.0))
        ups = [effect.data for effect in effects if isinstance(effect, Send) and effect.to is S]
        for _ in ups:
            self.perform(self._session.receive(Received(S, ANSWER), 1.0))

    def step(self, step: bytes | int) -> None:
        if isinstance(step, int):
            self.policy = POLICIES[step]
        else:
            self.perform(self._session.receive(Received(C, step), 1.0))


def play(script: list[bytes | int]) -> tuple[list[Effect], list[bytes]]:
    run = Run()
    for step in script:
        run.step(step)
    return run.effects, [pack(Frame(1, 0.0, "f", note)) for note in run.effects if isinstance(note, Note)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=st.lists(STEPS, min_size=2, max_size=12))
def test_what_is_kept_changes_nothing(script: list[bytes | int], monkeypatch: pytest.MonkeyPatch) -> None:
    fast = play([*script, *script])
    with monkeypatch.context() as patch:
        patch.setattr(reader, "MAX_KEPT_SIZE", 0)
        patch.setattr(connection, "MAX_KEPT_HEAD", 0)
        plain = play([*script, *script])
    assert fast == plain


def test_the_scripts_do_what_rules_say() -> None:
    effects, _ = play([*REQUESTS, 1, *REQUESTS])
    verdicts = [e.decision.verdict for e in effects if isinstance(e, Note) and e.kind == "decision" and e.decision]
    assert {"allow", "block"} <= set(verdicts)
    assert any(isinstance(e, Ask) for e in effects)
    assert any(isinstance(e, Note) and e.masks for e in effects)
