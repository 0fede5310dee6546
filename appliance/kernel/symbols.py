"""Where functions are in an executable or a shared object.

Source: System V ABI, chapters "Object Files" and "Program Loading" (ELF-64). The file may be a vendor's and whoever
asks is root, so nothing but this reads it: no library in C, no mapping that the vendor can cut short under us. 64-bit
files of this machine's byte order only.
"""

import os
import re
import struct
import sys
from collections.abc import Collection, Iterator

MAX_TABLE = 64 << 20  # bytes of one table of symbols or of names; a browser's has 30 MiB
MAX_HEADERS = 65535  # e_shnum and e_phnum are 16 bits wide
MAGIC = b"\x7fELF\x02" + (b"\x01" if sys.byteorder == "little" else b"\x02")
HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
SECTION = struct.Struct("=IIQQQQIIQQ")
SEGMENT = struct.Struct("=IIQQQQQQ")
SYMBOL = struct.Struct("=IBBHQQ")
SYMTAB, DYNSYM = 2, 11
LOAD, EXECUTABLE = 1, 1
FUNCTION = 2  # STT_FUNC


def functions(fd: int, wanted: Collection[str]) -> dict[str, int]:
    """Return the offsets in the file of those functions that it defines; none if it is no such file, or broken."""
    try:
        head = HEADER.unpack(_read(fd, 0, HEADER.size))
        if not head[0].startswith(MAGIC):
            return {}
        sections = list(_table(fd, SECTION, head[6], head[12]))
        segments = [s for s in _table(fd, SEGMENT, head[5], head[10]) if s[0] == LOAD and s[1] & EXECUTABLE]
        found: dict[str, int] = {}
        for section in sections:
            if section[1] in (SYMTAB, DYNSYM) and section[6] < len(sections):
                for name, address in _defined(fd, section, sections[section[6]], wanted):
                    for offset in _offsets(segments, address):
                        found[name] = offset
    except (OSError, ValueError, OverflowError, struct.error):
        return {}
    return found


def _defined(
    fd: int, symbols: tuple[int, ...], names: tuple[int, ...], wanted: Collection[str]
) -> Iterator[tuple[str, int]]:
    """Yield the name and address of each function of a table. A name may be the end of another in the names."""
    text = _read(fd, names[4], names[5])
    pattern = re.compile(rb"(?=(" + b"|".join(re.escape(name.encode()) for name in wanted) + rb")\0)")
    places = {match.start(): match[1].decode() for match in pattern.finditer(text)}
    if not places:
        return
    whole = symbols[5] - symbols[5] % SYMBOL.size
    for name, info, _other, section, address, _size in SYMBOL.iter_unpack(_read(fd, symbols[4], whole)):
        if name in places and info & 0xF == FUNCTION and section:
            yield places[name], address


def _offsets(segments: list[tuple[int, ...]], address: int) -> Iterator[int]:
    for _kind, _flags, offset, start, _physical, size, _memory, _align in segments:
        if start <= address < start + size:
            yield address - start + offset


def _table(fd: int, entry: struct.Struct, offset: int, number: int) -> Iterator[tuple[int, ...]]:
    return entry.iter_unpack(_read(fd, offset, entry.size * min(number, MAX_HEADERS)))


def _read(fd: int, offset: int, size: int) -> bytes:
    """Return exactly so many bytes.

    Raises:
        ValueError: there are fewer, or they are too many.
    """
    if size > MAX_TABLE:
        raise ValueError(f"{size} bytes of a table")
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return data
