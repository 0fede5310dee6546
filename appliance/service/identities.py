"""Identities of the rules on disk, for who puts processes where an identity is: by name, and as a cgroup."""

import ipaddress
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from appliance import config
from appliance.config.document import did_you_mean
from appliance.model import ConfigError
from appliance.policy import Policy
from appliance.policy.rule import Identity
from appliance.service import rulebook

DOCUMENTATION = ipaddress.IPv6Address("2001:db8::")  # RFC 3849: names of targets are not looked up


def nowhere() -> Callable[[str], Sequence[str]]:
    """Return a resolver that asks nobody: each name has an address nobody has."""
    numbers = count(1)
    return lambda name: (str(DOCUMENTATION + next(numbers)),)


def policy(directory: Path, more: Sequence[tuple[str, str]] = ()) -> Policy:
    """Return the rules of a directory, and of more files beside them, without asking a resolver.

    Raises:
        ConfigError: they are wrong.
    """
    return config.rules((*rulebook.read(directory).texts, *more), nowhere())


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
