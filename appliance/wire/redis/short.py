"""Replies of one value that is here whole and goes down as it came, which is what most commands get.

What this does not take, `Answers` reads in its general way, which comes to the same for what this takes.
"""

from appliance.model import Column, Message, Side
from appliance.wire.inbox import Inbox
from appliance.wire.redis import frames
from appliance.wire.redis.frames import CRLF, MAX_HEAD, MAX_SMALL
from appliance.wire.redis.layouts import VALUES
from appliance.wire.redis.ledger import Link
from appliance.wire.redis.owed import Request
from appliance.wire.redis.tags import INTEGER, STATUS, STRING

VALUE = (Column("", place=0),)


def short(inbox: Inbox, link: Link, head: Request | None) -> Message | None:
    """Take the reply to the head of the queue if it is of that kind; None: it is not, or is not here."""
    if head is None or head.kind != "plain" or head.refusal or link.queued is not None or link.muted or link.skip:
        return None
    tag, status = inbox.data[inbox.at], ""
    if tag == STRING:
        end = _string(inbox, head)
    elif tag == INTEGER or (tag == STATUS and link.monitor is None):
        end = _line(inbox, head)
    else:
        return None
    if end < 0:
        return None
    if tag == STATUS:
        status = frames.shown(inbox.data[inbox.at + 1 : end - 2])
        if status == "QUEUED":
            return None
    raw = inbox.take(end - inbox.at)
    return Message(Side.SERVER, "reply", raw, name=head.name, status=status, secret=head.secret)


def _string(inbox: Inbox, head: Request) -> int:
    """Return where a string ends that is not masked; -1: it may be, or is not whole."""
    data, at = inbox.data, inbox.at
    line = data.find(CRLF, at, at + MAX_HEAD)
    size = frames.number(data[at + 1 : line]) if line > 0 else None
    if size is None or size < -1 or (head.plan is not None and head.layout is not VALUES):
        return -1
    if size < 0:
        return line + 2
    end = line + size + 4
    if end > len(data):
        return -1
    cells = head.plan(VALUE) if head.plan is not None else None
    return -1 if cells is not None and cells[0] is not None else end


def _line(inbox: Inbox, head: Request) -> int:
    """Return where a number or a status ends that holds no value of a key; -1: it may, or is not whole."""
    layout = head.layout
    if head.plan is not None and (layout is None or layout.integers or layout.opaque):
        return -1
    line = inbox.data.find(CRLF, inbox.at, inbox.at + MAX_SMALL)
    return -1 if line < 0 else line + 2
