"""Opens the reader of a protocol, and what readers of one worker share."""

from appliance.facts import Reader
from appliance.facts.postgres import Postgres
from appliance.facts.store import Shared

__all__ = ["Shared", "open"]


def open(protocol: str, shared: Shared, server: str = "", needs_catalog: bool = True) -> Reader:
    """Return a reader for one flow of `protocol` to `server` ("host:port"; empty: nothing is shared with
    others).

    Without `needs_catalog` it never asks for the catalogue: relations and columns go by the names in the
    text.

    Raises:
        ValueError: the protocol has no reader.
    """
    if protocol != "postgres":
        raise ValueError(f"no reader for protocol {protocol!r}")
    return Postgres(shared, server, needs_catalog)
