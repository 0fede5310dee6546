"""A flow that the rules pass unread: by its place alone, or as TLS that is not opened, by what that says in the clear.

Each piece is judged by the rules in force when it comes. While those are the same, and nothing of it is looked at, a
piece can be no other than the one before: then the caller may move them without showing them (`rests`).
"""

from appliance.facts import Facts
from appliance.model import Decision, Side
from appliance.policy import Policy
from appliance.session.encryption import Encryption
from appliance.session.ground import Ground
from appliance.session.scribe import Scribe


class Unread:
    """Of one flow."""

    def __init__(self, ground: Ground, scribe: Scribe) -> None:
        self._ground, self._scribe = ground, scribe
        self._resting: Policy | None = None  # under these rules the last piece was passed without a look at it
        self._judged: tuple[Facts, Policy, Decision] | None = None  # what a hello asks for may take long to judge

    def passes(self, encryption: Encryption, side: Side, data: bytes) -> bool:
        """Judge what `side` said; True if it may go on.

        Raises:
            ProtocolError: TLS that says other things than were judged.
        """
        ground, self._resting = self._ground, None
        if encryption.unread:
            news = encryption.looks(side, data)
            decision = self._judge(encryption.facts)
            if news:
                self._scribe.decision(decision, f"not opened: {encryption.facts.subject}")
            passed, rests = decision.verdict == "allow" or encryption.looks_on, encryption.seen
        else:
            found = ground.passes()
            passed, rests = found is not None and found.verdict == "allow", True
        if passed and rests:
            self._resting = ground.policy
        return passed

    def _judge(self, facts: Facts) -> Decision:
        """Judge what has been said in the clear, if that or the rules have changed."""
        last, policy = self._judged, self._ground.policy
        if last is None or last[0] is not facts or last[1] is not policy:
            last = self._judged = (facts, policy, self._ground.unread(facts))
        return last[2]

    def rests(self, rules: Policy) -> bool:
        """True while the next piece would pass under `rules`, whatever it is."""
        return self._resting is rules
