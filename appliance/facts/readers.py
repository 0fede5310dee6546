"""Opens the reader of a protocol: `open` of the module here that has its name."""

import importlib
from functools import cache
from types import ModuleType

from appliance.facts import Reader
from appliance.facts.shared import Shared
from appliance.facts.words import PROTOCOLS
from appliance.model import Process

__all__ = ["Shared", "denoted", "open"]


def open(
    protocol: str, shared: Shared, server: str = "", needs_catalog: bool = True, process: Process | None = None
) -> Reader:
    """Return a reader for one flow of `protocol` to `server` ("host:port"; empty: nothing is shared with
    others), of `process`.

    Without `needs_catalog` it never asks for the catalogue: relations and columns go by the names in the
    text.

    Raises:
        ValueError: the protocol has no reader.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no reader for protocol {protocol!r}")
    module = _module(protocol)
    follows = hasattr(module, "follow")  # a protocol without a catalogue, whose rules count what a process moves
    reader: Reader = module.follow(shared, process) if follows else module.open(shared, server, needs_catalog)
    return reader


def denoted(protocol: str, text: str) -> str:
    """Return what constants of a text stand for that is written otherwise there, a line each; "" for none."""
    tell = getattr(_module(protocol), "denoted", None) if protocol in PROTOCOLS else None
    return str(tell(text)) if tell is not None else ""


@cache
def _module(protocol: str) -> ModuleType:
    return importlib.import_module(f"appliance.facts.{protocol}")
