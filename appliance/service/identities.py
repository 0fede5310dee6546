"""Identities of the rules on disk, for who puts processes where an identity is: by name, and as a cgroup."""

import ipaddress
from itertools import count
from pathlib import Path

from appliance import config
from appliance.config.document import did_you_mean
from appliance.model import ConfigError
from appliance.policy import Policy
from appliance.policy.rule import Identity
from appliance.service import rulebook

DOCUMENTATION = ipaddress.IPv6Address("2001:db8::")  # RFC 3849: names of targets are not looked up


def policy(directory: Path) -> Policy:
    """Return the rules of a directory without asking a resolver: each name has an address nobody has.

    Raises:
        ConfigError: they are wrong.
    """
    numbers = count(1)
    return config.rules(rulebook.read(directory).texts, lambda name: (str(DOCUMENTATION + next(numbers)),))


def named(directory: Path, name: str) -> Identity:
    """Return an identity of the rules in a directory.

    Raises:
        ConfigError: the rules are wrong, or have none of this name.
    """
    known = {identity.name: identity for identity in policy(directory).identities}
    if name in known:
        return known[name]
    near = did_you_mean(name, tuple(known)) if known else f"vendorgate init --name {name}"
    raise ConfigError(f"--identity {name}", f"the rules in {directory} have no such identity", near)


def cgroup(identity: Identity, token: str) -> str:
    """Return a path below the slice that is this identity and nobody's yet: `token` makes it so."""
    pattern = next(iter((*identity.cgroup, *identity.unit)), f"{identity.name}-*.scope")
    if "*" in pattern:
        head, _, tail = pattern.rpartition("*")
        return f"{head.replace('*', token)}{token}{tail}"
    return f"{pattern}/{token}"
