"""Files -> settings and rules. The only author of configuration errors.

Knows no file but the text it is given.

    document    YAML with the line of each node
    settings    vendorgate.yaml
    rules       rules files; `places` and `conditions` are parts of a rule
    useless     rules that can never take effect
    rule_tests  *.test.yaml
    schema      JSON Schemas for editors
"""

from appliance.config.recording import Anchor, Place, Record
from appliance.config.rule_tests import Result, run
from appliance.config.rules import rules
from appliance.config.schema import schema
from appliance.config.settings import Approvals, Relay, Settings, settings

__all__ = [
    "Anchor",
    "Approvals",
    "Place",
    "Record",
    "Relay",
    "Result",
    "Settings",
    "rules",
    "run",
    "schema",
    "settings",
]
