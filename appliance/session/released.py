"""What approvals have released: what continues a request that was approved rides on that answer."""

from appliance.facts import Facts
from appliance.model import Decision, Message


class Released:
    """Of one flow: by cursor what runs on it, and under which rules it was approved."""

    def __init__(self) -> None:
        self._cursors: dict[str, str] = {}

    def asks(self, message: Message, subject: str, facts: Facts, revision: str) -> bool:
        """Return True if reviewers are to be asked about a message of which rules say so."""
        if facts.stage == "begins":
            return True
        return facts.stage == "continues" and self._cursors.get(message.cursor) != f"{revision} {subject}"

    def rides(self, decision: Decision, facts: Facts) -> Decision:
        """Return what is decided about a message of which they need not be asked."""
        reason = "only prepares: asked when it runs" if facts.stage == "prepares" else "approved when it began"
        return Decision("allow", decision.rule, decision.file, decision.revision, reason)

    def keep(self, message: Message, facts: Facts | None, text: str, revision: str) -> None:
        """A message is approved."""
        if facts and facts.stage == "begins":
            self._cursors[message.cursor] = f"{revision} {text}"

    def judged(self, message: Message, facts: Facts) -> None:
        """What begins anew on a cursor is another thing."""
        if self._cursors and facts.stage == "begins":
            self._cursors.pop(message.cursor, None)

    def clear(self) -> None:
        self._cursors.clear()
