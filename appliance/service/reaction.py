"""Which rules with `on_incident` a flow's notes call upon, and how the hub is told."""

from collections.abc import Iterator, Sequence

from appliance.model import Flow, Note, Side
from appliance.policy import Policy
from appliance.policy.policy import about
from appliance.relay.channel import Contain

EXEC = "exec"  # `message` of the note that a process became another program: told, but programs do that
MAX_WHY = 300  # characters; the whole is in the record


def called(policy: Policy, flow: Flow, notes: Sequence[Note]) -> Iterator[tuple[str, str]]:
    """Yield rule and reason: a block by such a rule, or an incident of the client on a flow that one is about."""
    rules = policy.reacting  # made once: this is asked for each batch of notes
    if not rules:
        return
    for note in notes:
        decision = note.decision
        if note.kind == "decision" and decision and decision.verdict == "block" and decision.rule in rules:
            yield decision.rule, f"blocked: {note.text}"
        elif note.kind == "incident" and note.side is not Side.SERVER and note.message != EXEC:
            who = policy.identify(flow.process)
            for rule in rules.values():
                if about(rule, flow.place) and policy.who(rule, who) is not False:
                    yield rule.id, note.text
                    break


def contain(
    policy: Policy | None, flow: Flow, notes: Sequence[Note]
) -> tuple[Contain | None, Sequence[Note]]:
    """Return what to ask of the hub, if anything, and the notes with one that says so, before the flow closes."""
    if policy is None or flow.process is None:
        return None, notes
    for rule, why in called(policy, flow, notes):
        text = why[:MAX_WHY].encode("utf-8", "backslashreplace").decode()
        asked = Contain(flow.id, flow.process.cgroup, rule, text)
        said = Note("incident", f"rule {rule} freezes {asked.cgroup}: {text}")
        at = len(notes) - (notes[-1].kind == "closed")
        return asked, (*notes[:at], said, *notes[at:])
    return None, notes
