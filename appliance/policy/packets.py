"""What of the rules only the packet engine can carry out."""

from appliance.facts.words import protocols_of
from appliance.policy.policy import Policy
from appliance.policy.rule import TRANSPORTS, Rule, Target


def needs_engine(policy: Policy) -> bool:
    """Return True if some rule lets by, or asks about, what is not a connection the relay terminates."""
    if policy.default == "allow" or any(target.mode == "packet" for target in policy.targets):
        return True
    return any(_reaches_packets(rule) for rule in policy.rules)


def needs_pings(policy: Policy) -> bool:
    """Return True if some rule lets by, or asks about, ICMP."""
    return policy.default == "allow" or any("icmp" in _carried(rule) for rule in policy.rules)


def _reaches_packets(rule: Rule) -> bool:
    return not _carried(rule) <= {"tcp"}


def _carried(rule: Rule) -> set[str]:
    """Return the transports of what a rule may let by."""
    if rule.do not in ("allow", "approve") or rule.shadow:
        return set()
    spoken = protocols_of(frozenset(rule.when)) if rule.when else frozenset(("",))
    found = {transport for protocol in spoken for transport in TRANSPORTS.get(protocol, ("tcp",))}
    return found & {transport for target in rule.to for transport in target.transports} if rule.to else found


def changes_length(rule: Rule) -> bool:
    """Return True if a mask does not put as many characters in the place of those it hides."""
    return rule.do == "mask" and (rule.method is None or rule.method.name != "keep-last-4")


def masked(rule: Rule, target: Target) -> bool:
    """Return True if a mask may be about answers of a target that is not terminated."""
    if rule.do != "mask" or rule.shadow or target.mode != "packet":
        return False
    if rule.to and not any(one.meets(target) for one in rule.to):
        return False
    return not rule.when or not target.protocol or target.protocol in protocols_of(frozenset(rule.when))
