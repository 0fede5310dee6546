"""Commands the server owes an answer to, in order, and the modes of the connection that decide what an answer is.

Theory of operation. The server answers commands in order, each with exactly one reply. What breaks this is kept from
it, or taken into account:

- SUBSCRIBE and its kin are answered by one message a channel. Messages and other pushes come between replies: in RESP3
  by a type of their own, in RESP2 as arrays that begin with a word no other reply can begin with while the connection
  is subscribed.
- Between MULTI and EXEC the reply is +QUEUED, and the replies proper are the elements of EXEC's. What would change the
  form of answers in the middle of those (subscriptions, HELLO, MONITOR, CLIENT REPLY) is refused in a transaction.
- CLIENT REPLY OFF and SKIP are carried out here: CLIENT REPLY ON goes up in their place, and replies are left out on
  the way down. So every command keeps its reply, and none can be taken for another's.
- After MONITOR lines of a form of their own come between replies. After SYNC all is a stream that is not looked into.
"""

from collections import deque
from collections.abc import Sequence

from appliance.model import Column, ProtocolError
from appliance.wire import Cell, Plan
from appliance.wire.redis.frames import MAX_FEED, MAX_FEEDS, MAX_PIPELINE
from appliance.wire.redis.layouts import META
from appliance.wire.redis.owed import Request

ASIDE = Column("", place=META)  # where in its plan what is pushed belongs


class _Both:
    """Two plans, one after the other."""

    def __init__(self, one: Plan, other: Plan) -> None:
        self._one, self._other = one, other

    def __call__(self, columns: tuple[Column, ...]) -> Sequence[Cell | None] | None:
        cells, more = self._one(columns), self._other(columns)
        if cells is None or more is None:
            return cells or more
        return [_Chain(one, other).mask for one, other in zip(cells, more, strict=True)]


class _Chain:
    def __init__(self, one: Cell | None, other: Cell | None) -> None:
        self._one, self._other = one, other

    def mask(self, text: str) -> str | None:
        said = self._one(text) if self._one is not None else text
        return self._other(said) if self._other is not None and said is not None else said


class Link:
    """What both directions know of the connection."""

    def __init__(self) -> None:
        self.resp = 2
        self.open = False  # MULTI went up, and nothing since that ends it
        self._turned: Request | None = None  # what went up last of what begins or ends a transaction
        self.queued: list[Request] | None = None  # commands the server has queued since MULTI
        self.counts = {"channel": 0, "pattern": 0, "shard": 0}  # subscriptions
        self.plan: Plan | None = None  # of the newest command: masks what is pushed
        self._feeds: dict[tuple[str, bytes], Plan] = {}  # of what was subscribed to by name: masks what is pushed of it
        self._names = 0  # bytes of those names
        self.monitor: Request | None = None
        self.watches = False  # MONITOR went up, once
        self.stream = False  # SYNC: what the server says is no longer replies
        self.muted = False  # CLIENT REPLY OFF
        self.skip = False  # CLIENT REPLY SKIP: the next reply is left out
        self.id = b""

    @property
    def subscribed(self) -> bool:
        return any(self.counts.values())

    def turn(self, request: Request) -> None:
        """Note that what begins or ends a transaction went up."""
        self._turned, self.open = request, request.kind == "multi"

    def failed(self, request: Request) -> None:
        """Note that a request failed, so that it neither began nor ended one: else what went up behind it tells."""
        if request.kind == "exec":
            self.queued = None  # it always ends one
        if request is self._turned:
            self.open = self.queued is not None

    def follow(self, sort: str, name: bytes, plan: Plan | None) -> None:
        """Note that a subscription has begun, and what of its messages is masked."""
        self.leave(sort, name)
        cells = plan((ASIDE,)) if plan is not None else None
        if plan is None or cells is None or cells[0] is None:
            return
        self._names += len(name)
        if len(name) > MAX_FEED or self._names > MAX_FEEDS:
            raise ProtocolError(f"names of masked channels of more than {MAX_FEED} bytes, or {MAX_FEEDS} in all")
        self._feeds[sort, name] = plan

    def leave(self, sort: str, name: bytes) -> None:
        """Note that a subscription has ended."""
        if self._feeds.pop((sort, name), None) is not None:
            self._names -= len(name)

    def masks(self, sort: str, name: bytes) -> Plan | None:
        """Return the plan for a message of a channel or pattern."""
        feed, newest = self._feeds.get((sort, name)), self.plan
        if feed is None or newest is None or feed is newest:
            return feed or newest
        return _Both(feed, newest)

    def reset(self) -> None:
        """Note RESET."""
        self.resp, self.queued, self.monitor, self.muted, self.skip = 2, None, None, False, False
        self.counts = dict.fromkeys(self.counts, 0)
        self._feeds, self._names = {}, 0


APART = frozenset(("hello", "monitor", "sync", "reply", "subscribe"))
"""Kinds that would change the form of answers in the middle of those of a transaction."""

SORTS = {
    "subscribe": "channel", "unsubscribe": "channel", "psubscribe": "pattern", "punsubscribe": "pattern",
    "ssubscribe": "shard", "sunsubscribe": "shard",
}  # fmt: skip
"""Words that confirmations begin with, and what they count."""
ENDS = frozenset(("unsubscribe", "punsubscribe", "sunsubscribe"))


class Ledger:
    """The queue."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()
        self.confirmed = 0  # channels of the head

    @property
    def head(self) -> Request | None:
        return self.queue[0] if self.queue else None

    def push(self, request: Request) -> None:
        if len(self.queue) >= MAX_PIPELINE:
            raise ProtocolError(f"more than {MAX_PIPELINE} commands without an answer")
        self.queue.append(request)

    def pop(self) -> Request:
        self.confirmed = 0
        return self.queue.popleft()

    def confirm(self, link: Link, word: str, name: bytes, count: int) -> bool:
        """Note the confirmation of a (un)subscription by name; return True if its command is answered by it.

        `count` is what the server says: subscriptions to channels and patterns, or to shard channels.
        """
        sort = SORTS[word]
        others = 0 if sort == "shard" else link.counts["pattern" if sort == "channel" else "channel"]
        before = link.counts[sort]
        link.counts[sort] = max(0, count - others)
        head = self.head if self.head is not None and self.head.word == word else None
        if word in ENDS:
            link.leave(sort, name)
        else:
            link.follow(sort, name, link.plan if head is None else head.plan)
        if head is None:
            return False  # the server ended a subscription by itself
        self.confirmed += 1
        if head.due:
            return self.confirmed == head.due
        return before <= 1 or link.counts[sort] == 0
