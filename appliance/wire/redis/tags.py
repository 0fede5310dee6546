"""First bytes of replies.

Source: Redis documentation, "Redis serialization protocol specification".
"""

from typing import Final

ARRAY: Final = 0x2A  # *
SET: Final = 0x7E  # ~
PUSH: Final = 0x3E  # >
MAP: Final = 0x25  # %
ATTRIBUTE: Final = 0x7C  # |
STRING: Final = 0x24  # $
VERBATIM: Final = 0x3D  # =
FAILURE: Final = 0x21  # !
STATUS: Final = 0x2B  # +
ERROR: Final = 0x2D  # -
INTEGER: Final = 0x3A  # :
DOUBLE: Final = 0x2C  # ,
BIG: Final = 0x28  # (
BOOLEAN: Final = 0x23  # #
NULL: Final = 0x5F  # _
CHUNK: Final = 0x3B  # ;
END: Final = 0x2E  # .

AGGREGATES = {ARRAY: 1, SET: 1, PUSH: 1, MAP: 2, ATTRIBUTE: 2}  # elements a member
STRINGS = frozenset((STRING, VERBATIM, FAILURE))
LINES = frozenset((STATUS, ERROR, INTEGER, DOUBLE, BIG, BOOLEAN, NULL))
