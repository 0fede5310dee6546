"""The proof for some sessions, to be handed over: their segments with all other frames as hashes.

    verify.py              the verifier; run it on the directory all this is unpacked to
    proof/excerpt          says that frames of other sessions are left out
    proof/key.pub          the public key
    proof/*.checkpoints    from the time of the first session on
    records/*.record       the segments, not packed

Nothing of another session is in it but the hashes and sizes of its frames; each frame is salted, so that what it
said cannot be guessed from its hash.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from appliance.record import read
from appliance.record.chain import HASH, MAX_GAP, Item, gap, leaf
from appliance.record.checkpoint import KEY, entries, files
from appliance.record.frame import UNREADABLE
from appliance.record.packed import written
from appliance.record.seal import Seal
from appliance.record.standalone import source

CHUNK = 1 << 16  # bytes given out at a time


class Member(msgspec.Struct, frozen=True):
    """One file of the proof; `parts` can be read once."""

    name: str
    parts: Iterator[bytes]


class _Whose(msgspec.Struct, frozen=True, gc=False):
    id: str = ""


_whose = msgspec.msgpack.Decoder(_Whose)
_seals = msgspec.msgpack.Decoder(Seal)


def members(state_dir: Path, ids: Iterable[str], names: Iterable[str]) -> Iterator[Member]:
    """Yield the files of a proof for the sessions `ids`, which are in the segments `names` (file names).

    What retention takes meanwhile is left out. Raises, while it is read:
        BadFrame: a segment or the checkpoints cannot be read; `verify` says more.
    """
    wanted, chosen = frozenset(ids), sorted(set(names))
    proof, records = state_dir / "proof", state_dir / "records"
    yield Member("verify.py", iter([source().encode()]))
    yield Member("proof/excerpt", iter(["\n".join(sorted(wanted)).encode() + b"\n"]))
    yield Member(f"proof/{KEY}", iter([(proof / KEY).read_bytes()]))
    for path in _about(proof, records, chosen):
        yield Member(f"proof/{path.name}", _read(path))
    for name in chosen:
        if (records / name).exists():
            yield Member(f"records/{name}", _joined(thinned(read.items(records / name), wanted)))


def thinned(items: Iterable[Item], keep: frozenset[str]) -> Iterator[bytes]:
    """Yield the header and the frames of the sessions named, and gaps for the others."""
    hashes, size = bytearray(), 0
    for number, item in enumerate(items):
        if number == 0 or (not item.gap and _id(item.body) in keep):
            if hashes:
                yield gap(size, bytes(hashes))
                hashes, size = bytearray(), 0
            yield written(item)
            continue
        hashes += item.data if item.gap else leaf(item.data)
        size += item.end - item.start
        if len(hashes) >= MAX_GAP * HASH:
            yield gap(size, bytes(hashes))
            hashes, size = bytearray(), 0
    if hashes:
        yield gap(size, bytes(hashes))


def _id(body: bytes) -> str | None:
    """Return whose a frame is; None of what only a worker that was taken over would write."""
    try:
        return _whose.decode(body).id
    except UNREADABLE:
        return None


def _about(proof: Path, records: Path, names: list[str]) -> list[Path]:
    """Return the files of checkpoints from when the first of the segments was begun until all are sealed."""
    begun = []
    for name in names:
        top = read.header(records / name) if (records / name).exists() else None
        if top:
            begun.append(top.begun)
    found: list[Path] = []
    open = set(names)
    for path in files(proof):
        first = next(entries(path), None)
        if first and begun and first.entry.time <= min(begun):
            found = []  # all before this file is older
        found.append(path)
        for one in entries(path):
            open -= {_seals.decode(seal.body).name for seal in one.entry.seals}
        if not open and names:
            break
    return found


def _read(path: Path) -> Iterator[bytes]:
    """Yield the whole entries of a file: one that is being written is left out."""
    for one in entries(path):
        yield one.data


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    kept: list[bytes] = []
    size = 0
    for part in parts:
        kept.append(part)
        size += len(part)
        if size >= CHUNK:
            yield b"".join(kept)
            kept, size = [], 0
    if kept:
        yield b"".join(kept)
