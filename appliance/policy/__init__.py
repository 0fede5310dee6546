"""Rules, decisions, masks, detectors. Pure: no bytes, no sockets, no files, no clock.

    patterns  names and paths with `*`, matched wide or strict
    rule      what a rules file says, as values
    policy    decisions
    masks     cells
    detect    one pass for all detectors; `finders` are the exact ones
    judge     what the kernel can decide alone
    explain   why a decision is what it is
"""

from appliance.policy.detect import BadPattern, Detectors
from appliance.policy.explain import Step, explain
from appliance.policy.judge import Entry, entries
from appliance.policy.masks import MaskPlan, Masks
from appliance.policy.policy import Policy
from appliance.policy.rule import UNSURE, Identity, Method, Net, Rule, Target

__all__ = [
    "UNSURE",
    "BadPattern",
    "Detectors",
    "Entry",
    "Identity",
    "MaskPlan",
    "Masks",
    "Method",
    "Net",
    "Policy",
    "Rule",
    "Step",
    "Target",
    "entries",
    "explain",
]
