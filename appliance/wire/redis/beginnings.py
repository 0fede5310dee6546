"""How answers begin that are more than replies: what is pushed, what redirects, what changes the connection.

Source: Redis documentation, "Redis Pub/Sub", "MONITOR", "Redis cluster specification"; replication.c of 7.0.
"""

import re

from appliance.wire.redis import tags

MOVED = re.compile(r"(?:MOVED [0-9]+|ASK [0-9]+|REDIRECT) (\S*:[0-9]+)\Z")
"""MOVED 3999 127.0.0.1:6381; without a host, this one. REDIRECT is how Valkey says that another is the master."""

PUSHED = {"message": "channel", "pmessage": "pattern", "smessage": "shard"}
"""Words that messages begin with, and the kind of subscription they come of."""

LINE = re.compile(rb"\+[0-9]{1,20}\.[0-9]{1,6} \[")  # of MONITOR: "+1339518083.107412 [0 127.0.0.1:60866] ..."
MAX_LINE_HEAD = 30  # bytes that show whether a line is MONITOR's
BEGINS_STREAM = re.compile(rb"\+FULLRESYNC [^\n]*\Z|\+CONTINUE[^\n]*\Z|\$(?:[0-9]+|EOF:[^\n]+)\Z")


def is_line(data: bytearray, at: int) -> bool | None:
    """Return whether what comes is a line of MONITOR; None: too little is there."""
    start = bytes(data[at : at + MAX_LINE_HEAD])
    if len(start) < MAX_LINE_HEAD and b"\r\n" not in start:
        return None
    return LINE.match(start) is not None


TAGS = {
    "exec": (tags.ARRAY, tags.NULL),
    "hello": (tags.ARRAY, tags.MAP),
    "id": (tags.INTEGER,),
    "sync": (tags.STATUS, tags.STRING),
}
"""First bytes of replies that change the connection and are no status."""
