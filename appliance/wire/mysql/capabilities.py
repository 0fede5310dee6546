"""Capability and status flags, and which of them are read here.

Sources: MySQL 8.4 source documentation, "Capabilities Flags", "Status Flags"; MariaDB documentation, "Connection"
(a MariaDB server leaves LONG_PASSWORD unset and offers 32 flags more, here from bit 32 up).
"""

LONG_PASSWORD = 1  # MariaDB: unset says that extended flags follow
CONNECT_WITH_DB = 1 << 3
COMPRESS = 1 << 5
LOCAL_FILES = 1 << 7
PROTOCOL_41 = 1 << 9
SSL = 1 << 11
SECURE_CONNECTION = 1 << 15
MULTI_STATEMENTS = 1 << 16
PLUGIN_AUTH = 1 << 19
CONNECT_ATTRS = 1 << 20
PLUGIN_AUTH_LENENC = 1 << 21
SESSION_TRACK = 1 << 23
DEPRECATE_EOF = 1 << 24
OPTIONAL_METADATA = 1 << 25
ZSTD = 1 << 26
QUERY_ATTRIBUTES = 1 << 27
EXTENSION = 1 << 29  # MySQL: reserved for 32 flags more; MariaDB: progress reports, of old
PROGRESS = 1 << 32
COM_MULTI = 1 << 33
BULK = 1 << 34
EXTENDED_METADATA = 1 << 35
CACHE_METADATA = 1 << 36
BULK_UNIT_RESULTS = 1 << 37

NAMES = """
    long-password found-rows long-flag connect-with-db no-schema compress odbc local-files ignore-space protocol-41
    interactive ssl ignore-sigpipe transactions reserved secure-connection multi-statements multi-results
    ps-multi-results plugin-auth connect-attributes plugin-auth-lenenc expired-passwords session-track deprecate-eof
    optional-metadata zstd query-attributes multi-factor extension verify-server remember-options progress com-multi
    bulk extended-metadata cache-metadata bulk-unit-results
""".split()  # noqa: SIM905

READ = (1 << 32) - 1 - EXTENSION | PROGRESS | BULK | EXTENDED_METADATA | CACHE_METADATA | BULK_UNIT_RESULTS
MARIADB_READ = READ | EXTENSION

# Status flags.
IN_TRANSACTION = 1
MORE_RESULTS = 8
CURSOR_EXISTS = 0x40
LAST_ROW_SENT = 0x80
NO_BACKSLASH_ESCAPES = 0x200
STATE_CHANGED = 0x4000

STATUS_WORDS = {
    IN_TRANSACTION: "transaction",
    2: "autocommit",
    MORE_RESULTS: "more",
    0x100: "dropped",
    NO_BACKSLASH_ESCAPES: "no-backslash-escapes",
    0x2000: "read-only",
    0x8000: "ansi-quotes",
}


def words(capabilities: int) -> str:
    """Return the flags by name, the bits without one by number."""
    named = [name for bit, name in enumerate(NAMES) if capabilities >> bit & 1]
    return " ".join(named + [f"bit-{bit}" for bit in range(len(NAMES), 64) if capabilities >> bit & 1])


def status_words(status: int, warnings: int) -> str:
    """Return the words `cursor` of an answer has for these status flags."""
    found = [word for bit, word in STATUS_WORDS.items() if status & bit]
    if not status & MORE_RESULTS:
        found.append("ready")
    return " ".join([*found, "warnings"] if warnings else found)
