"""First bytes of the server's messages.

Source: PostgreSQL 17 manual, "Message Formats".
"""

from typing import Final

ROW: Final = 0x44  # D
COPY_DATA: Final = 0x64  # d
RESULT: Final = 0x56  # V
ERROR: Final = 0x45  # E
NOTICE: Final = 0x4E  # N
PARAMETER: Final = 0x53  # S
NOTIFICATION: Final = 0x41  # A
READY: Final = 0x5A  # Z
AUTH: Final = 0x52  # R
SMALL: Final = frozenset(b"123CInsTt")  # answers that are short, one message each, and of no order of their own
STREAMED: Final = frozenset({ROW, COPY_DATA, RESULT})
COUNTED: Final = frozenset({ROW, COPY_DATA})
