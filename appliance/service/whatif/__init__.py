"""Recorded sessions judged by other rules: what would change.

Theory of operation. What was recorded of a session is followed as it happened, by the wire, the reader of facts and the
masks that judged it then: what went up went up, what was refused was refused. Each request on that way is judged by
the rules asked about, as if all before it had gone as recorded. So a change is about one request, not about what
a program would have done after it.

What is not in the record cannot be judged, and is counted as that: conditions on a text where only metadata was kept,
values a mask hid, answers to what was refused, what a passed connection said (known.py, again.py).
"""

from appliance.service.whatif.again import Again
from appliance.service.whatif.named import Named
from appliance.service.whatif.report import Change, Counts, Example, Report, Unjudged

__all__ = ["Again", "Change", "Counts", "Example", "Named", "Report", "Unjudged"]
