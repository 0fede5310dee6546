"""Files -> settings and rules. The only author of configuration errors.

Knows no file but the text it is given.

    document    YAML with the line of each node
    settings    vendorgate.yaml
    rules       rules files; `places` and `conditions` are parts of a rule
    useless     rules that can never take effect
"""

from appliance.config.rules import rules
from appliance.config.settings import Approvals, Record, Relay, Settings, settings

__all__ = ["Approvals", "Record", "Relay", "Settings", "rules", "settings"]
