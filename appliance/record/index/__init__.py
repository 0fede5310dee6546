"""Which sessions there are, what they are found by, and where their frames are: an SQLite file made from the logs.

It holds nothing that the logs do not, so it is thrown away and made again when it is lost, damaged, of
another format, or when a log became shorter than it was. `catch_up` reads only what was appended since.

    schema   the tables, and opening them
    intake   frames into them: `seen` is a frame as it is looked at, `kept` what comes again and again in frames
    words    the names and texts of a session
    gone     out of them again, when the log is gone
    search   a filter into a query that touches few rows
    place    frames of sessions, by time, in little memory
    index    all of it behind one object
"""

from appliance.record.index.index import Caught, Index
from appliance.record.index.schema import FORMAT

__all__ = ["FORMAT", "Caught", "Index"]
