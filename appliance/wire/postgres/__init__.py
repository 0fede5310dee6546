"""PostgreSQL protocol 3.0 and 3.2.

Source: PostgreSQL 17 and 18 manuals, "Frontend/Backend Protocol".
Not handled: TLS and GSSAPI (the caller ends TLS before it feeds us), protocol 2.

Messages of the client: startup ssl-request gss-request cancel auth query parse bind execute describe close
sync flush function-call copy-data copy-done copy-fail terminate. Of the server: auth parameter key negotiate
ready parse-complete bind-complete close-complete describe parameters no-data row complete empty suspended
function-result error notice notification copy-in copy-out copy-both copy-data copy-done ssl-answer tls injected
injected-done.
"""

from appliance.wire import Opening
from appliance.wire.postgres.client import code_of
from appliance.wire.postgres.connection import Postgres

__all__ = ["OPENING", "Postgres", "recognise"]


def recognise(client: bytes, server: bytes) -> bool | None:
    """Tell from the first bytes of both sides whether this is PostgreSQL; None: too few to tell."""
    if server or (client and client[0]):
        return False
    return None if len(client) < 8 else code_of(client[:8]) is not None


OPENING = Opening(Postgres, recognise)
