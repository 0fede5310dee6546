"""What a sealed segment has of sessions, by its own frames: what is to be dropped is looked at there before.

The catalog is quicker to ask and nobody signs it. Who may write it, and has no key, must not have the hub drop what is
not due and vouch for that by a tombstone. So the segment has to be what was sealed, and the catalog what that says.

Not seen: what a session that goes on over several segments has in the others. Its name for who spoke is in the first
only, so of one that does not begin here it stays open whose it is.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec

from appliance.record.catalog import brief, imported
from appliance.record.frame import BadFrame
from appliance.record.packed import Packed
from appliance.record.parts import Part
from appliance.record.seal import Seal
from appliance.record.signing import SEAL, is_signed
from appliance.record.tree import Tree

_seals = msgspec.msgpack.Decoder(Seal)


class Proven(msgspec.Struct, frozen=True):
    """Of some sessions what the segment has, and how many others it has."""

    parts: dict[str, Part]
    others: int


def proven(path: Path, public: bytes, ids: Collection[str]) -> Proven:
    """Return what a packed segment has of the sessions named.

    Raises:
        BadFrame: it is not what was sealed.
        FileNotFoundError: it is gone.
    """
    file, tree = Packed(path), Tree()
    parts: dict[str, Part] = {}
    others: set[str] = set()
    try:
        for item in file.items():
            said = brief(item) if tree.size and not item.gap else None
            for hash in item.hashes():
                tree.add(hash)
            if said and said.id in ids:
                part = parts.setdefault(said.id, Part(said.time))
                part.add(said.time, said.note, said.flow, item.end - item.start)
            elif said:
                others.add(said.id)
        signed = file.footer.seal
        if not is_signed(public, SEAL, signed):
            raise BadFrame(path, 0, "its seal is not signed by our key")
        seal = _seals.decode(signed.body)
        if (seal.name, seal.items, seal.root) != (path.name, tree.size, tree.root()):
            raise BadFrame(path, 0, "it is not what was sealed")
    finally:
        file.close()
    since = imported(path.name)
    for part in parts.values():
        part.last = max(part.last, since)
    return Proven(parts, len(others))
