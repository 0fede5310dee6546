"""One flow: wire, facts and policy joined, and the wait for a reviewer. Pure: events in, effects out."""

from appliance.session.core import Session

__all__ = ["Session"]
