"""The rules asked about, for one session: who it is, and whether what is known of a request is enough for them."""

from collections.abc import Collection

from appliance.facts import Facts
from appliance.model import Address, Decision, Process
from appliance.policy import Policy
from appliance.service.whatif.known import doubt


class Named(Policy):
    """The same rules. A process that is not known is taken for the identity `name`, "" for any."""

    def __init__(self, policy: Policy, name: str = "") -> None:
        vars(self).update(vars(policy))  # what it was built from, so that nothing is compiled again
        self._plain, self._name = policy, name
        self.missing: Collection[str] = ()  # keys of facts that the record has not, for the next decision
        self.doubt = ""  # why the last decision is none

    def identify(self, process: Process | None) -> tuple[str, ...]:
        if process is None and self._name:
            return (self._name,)
        return super().identify(process)

    def decide(self, who: tuple[str, ...], server: Address, facts: Facts) -> Decision:
        self.doubt = doubt(self._plain, who, server, facts, self.missing)
        return super().decide(who, server, facts)
