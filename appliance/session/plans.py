"""The masks for what requests bring back.

All plans of a flow count in one place what they change, and which columns they know: the record is told of both with
the next answer, and a flow that is never idle (a pipeline, a subscription) keeps no more than its last plan.
"""

from collections import Counter
from functools import partial

from appliance.facts import Facts, Reader
from appliance.model import Column, Decision, Message
from appliance.policy import MaskPlan
from appliance.session.ground import Ground


class Plans:
    """Of one flow."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.open: list[MaskPlan] = []  # the last one, which has the counts of all
        self._hits: Counter[str] = Counter()
        self._named: dict[Column, tuple[str, ...]] = {}

    def of(self, reader: Reader, message: Message, facts: Facts) -> tuple[MaskPlan | None, bool]:
        """Return the masks for what a request brings back, and whether errors that answer it are redacted."""
        masks = self._ground.masks()
        if not masks:
            return None, False
        plan = masks.plan(facts, partial(reader.origins, facts))
        plan.hits, plan.named = self._hits, self._named
        self.open = [plan]
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
