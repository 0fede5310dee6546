"""What is judged, and how often."""

import pytest

from appliance.facts import Facts
from appliance.model import Address, Decision
from appliance.policy import Policy


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects that the rules are asked about, from now on."""
    found: list[str] = []
    plain = Policy.decide

    def counted(self: Policy, who: tuple[str, ...], server: Address, facts: Facts) -> Decision:
        found.append(facts.subject)
        return plain(self, who, server, facts)

    monkeypatch.setattr(Policy, "decide", counted)
    return found
