"""The masks for what requests bring back, kept while their rows may come: their hits name the rules that masked."""

from functools import partial

from appliance.facts import Facts, Reader
from appliance.model import Decision, Message
from appliance.policy import MaskPlan
from appliance.session.ground import Ground


class Plans:
    """Of one flow."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.open: list[MaskPlan] = []

    def of(self, reader: Reader, message: Message, facts: Facts, idle: bool) -> tuple[MaskPlan | None, bool]:
        """Return the masks for what a request brings back, and whether errors that answer it are redacted.

        `idle`: no answer to an earlier one is owed.
        """
        masks = self._ground.masks()
        if not masks:
            return None, False
        plan = masks.plan(facts, partial(reader.origins, facts))
        if idle:
            self.open.clear()
        self.open.append(plan)
        copy = reader.copy(message)
        if copy is not None:
            plan.copy = copy
        return plan, masks.redacts(facts)

    def impossible(self, reader: Reader, message: Message, facts: Facts) -> Decision | None:
        """Return a block for a bulk copy whose form is not known: its rows could not be masked."""
        copy = reader.copy(message)
        if copy is None or copy.format:
            return None
        plan = self._ground.masks().plan(facts, partial(reader.origins, facts))
        if not plan.rules:
            return None
        reason = "the form of this copy is not known, so it could not be masked"
        return Decision("block", plan.rules[0], revision=self._ground.revision, reason=reason)
