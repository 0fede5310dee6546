"""Ids of sessions, and which worker gives which: two letters of each are its worker's.

A worker writes to segments that are called by it, as the hub sees to (begun.py). So a frame that says it is of another
worker's session was written by one that was taken over, and is refused: by the hub's rounds, and by the index.
"""

import re
from functools import lru_cache

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i l o u, in the order of ASCII
TIME = 11  # letters; 55 bits of microseconds reach the year 3111
WORKER = 2  # letters; up to 1,024 workers
CHANCE = 2  # letters; tell flows apart if the clock of the host was set back over a restart
LENGTH = TIME + WORKER + CHANCE
ENGINE, HUB = 510, 511  # numbers beside those of workers, which are at most 256
IMPORTS = 512  # the first number of imports: the upper half

_NUMBERED = re.compile(r"(?:worker|engine)(\d{1,4})")


def letters(number: int, width: int) -> str:
    """Return the last digits of a number, in the alphabet of ids."""
    out = ""
    for _ in range(width):
        number, rest = divmod(number, len(ALPHABET))
        out = ALPHABET[rest] + out
    return out


@lru_cache(IMPORTS)
def own(worker: str) -> str:
    """Return the letters in the ids of a worker's sessions; empty for others who record: they run as root."""
    numbered = _NUMBERED.fullmatch(worker)
    return letters(int(numbered[1]), WORKER) if numbered else ""


def is_foreign(id: str, own: str) -> bool:
    """Tell whether an id is one that another worker, the hub or an import gave."""
    return bool(own) and len(id) == LENGTH and id[TIME : TIME + WORKER] != own
