"""Files -> settings and rules. The only author of configuration errors.

Knows no file but the text it is given.
"""

from appliance.config.settings import Approvals, Record, Relay, Settings, settings

__all__ = ["Approvals", "Record", "Relay", "Settings", "settings"]
