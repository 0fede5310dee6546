"""A command that went up, as the ledger keeps it until it is answered."""

from typing import Literal

import msgspec

from appliance.wire import Plan
from appliance.wire.redis.layouts import Layout

Kind = Literal[
    "plain", "multi", "exec", "discard", "reset", "hello", "id", "reply", "subscribe", "monitor", "sync", "inject",
    "abort",
]  # fmt: skip


class Request(msgspec.Struct, frozen=True, gc=False):
    """A command that went up."""

    name: str  # in capitals, with its subcommand
    kind: Kind = "plain"
    plan: Plan | None = None
    layout: Layout | None = None  # of the reply; where there is a plan
    redact: bool = False
    refusal: bytes = b""  # the error the client gets; what went up fails in place of its command
    word: str = ""  # of "subscribe", the word its confirmations begin with; of "reply", the mode
    due: int = 0  # confirmations; 0: one for each channel of its kind, or one
    secret: bool = False  # the reply must not be recorded

    @property
    def masks(self) -> bool:
        return self.plan is not None or self.redact
