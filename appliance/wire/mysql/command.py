"""How one command of the client is read."""

from collections.abc import Callable

import msgspec

from appliance.model import Message
from appliance.wire.mysql.flow import Link


class Command(msgspec.Struct, frozen=True):
    """How a command is read: the kind of message it is, the limit of its payload in bytes, what reads it."""

    kind: str
    limit: int
    read: Callable[[Link, bytes, bytes, str], Message]
