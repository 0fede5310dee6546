"""The masks for what requests bring back.

All plans of a flow count in one place what they change, and which columns they know: the record is told of both with
the next answer, and a flow that is never idle (a pipeline, a subscription) keeps no more than its last plan.
"""

from collections import Counter
from functools import partial

from appliance.facts import Facts, Reader
from appliance.model import Column, Decision, Message
from appliance.policy import MaskPlan, Masks
from appliance.session.ground import Ground

MAX_PLANS = 256  # of a flow, kept by the shape of what they are for


class Plans:
    """Of one flow."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.open: list[MaskPlan] = []  # the last one, which has the counts of all
        self._hits: Counter[str] = Counter()
        self._named: dict[Column, tuple[str, ...]] = {}
        self._kept: dict[int, tuple[Facts, MaskPlan | None, bool]] = {}  # by id of the shape, which is kept with it
        self._kept_of: Masks | None = None

    def of(self, reader: Reader, message: Message, facts: Facts) -> tuple[MaskPlan | None, bool]:
        """Return the masks for what a request brings back, and whether errors that answer it are redacted."""
        kept = self._known(facts)
        if kept is not None:
            _, plan, redacts = kept
        else:
            plan, redacts = self._made(reader, message, facts)
        if plan is not None:
            self.open = [plan]
        return plan, redacts

    def impossible(self, reader: Reader, message: Message, facts: Facts) -> Decision | None:
        """Return a block for a bulk copy whose form is not known: its rows could not be masked."""
        copy = reader.copy(message) if self._known(facts) is None else None
        if copy is None or copy.format:
            return None
        plan = self._ground.masks().plan(facts, partial(reader.origins, facts))
        if not plan.rules:
            return None
        reason = "the form of this copy is not known, so it could not be masked"
        return Decision("block", plan.rules[0], revision=self._ground.revision, reason=reason)

    def _known(self, facts: Facts) -> tuple[Facts, MaskPlan | None, bool] | None:
        """Return what was found for facts of this shape; of those that copy nothing is kept."""
        if self._kept_of is not self._ground.masks():
            self._kept.clear()
            self._kept_of = self._ground.masks()
        return self._kept.get(id(facts.shape)) if facts.shape is not None else None

    def _made(self, reader: Reader, message: Message, facts: Facts) -> tuple[MaskPlan | None, bool]:
        masks, copy, plan, redacts = self._ground.masks(), reader.copy(message), None, False
        if masks:
            plan = masks.plan(facts, partial(reader.origins, facts))
            plan.hits, plan.named = self._hits, self._named
            redacts = masks.redacts(facts)
            if copy is not None:
                plan.copy = copy
        if copy is None and facts.shape is not None and self._ground.by_shape:
            if len(self._kept) >= MAX_PLANS:
                self._kept.clear()
            self._kept[id(facts.shape)] = (facts.shape, plan, redacts)
        return plan, redacts
