"""Follows one flow of MySQL or MariaDB and says what each message of its client would do.

Keys of `Facts.values` (facts/words/mysql.py has the rules' side):

    effect       read write schema drop truncate grant admin session procedure copy file lock kill replication. DROP is
                 also `schema`, TRUNCATE also `write`; an empty statement is `session`
    statement    commands, hidden statements included
    table        relations named, base tables of views, tables that foreign keys change
    column       columns read, whole rows both one by one and as "database.table.*"
    compared     columns that decide which rows come, or in what order, or whether something fails or warns
    copied       columns whose values go elsewhere than into the result: tables, variables, files
    written      columns written
    function     functions called: "builtin.lower", "database.name"
    role user database setting copy count
    text         the statement and its parameters, for detectors

Names that hold a dot or a quote are in double quotes. A database that is not known is "?"; what may be any column is
"?.?.?", any relation "?.?".

Two opinions: a lexer and a grammar of our own, made for what these servers do with sql_mode, charsets and executable
comments; and sqlglot. Where they differ on what a statement does or which tables it names, all of it is unknown.

Unknown, so refused where only what is known is allowed: what either cannot read; sql_mode ORACLE and MSSQL; characters
in a charset where they may hold a quote; comments that only some servers execute, where it matters; functions that are
not built in, procedures, routines and triggers; statements made at run time; numbers of statements never seen; and, if
the catalogue is needed, relations it does not have.

Not seen without the catalogue: views, triggers, foreign keys, generated columns. Not seen at all: what the user may
not see of these; expressions of indexes, defaults and checks that are there; what is changed past us, until the
catalogue is read again (entry.py), and while a statement is on its way.
"""

from appliance.facts.mysql.denoted import denoted
from appliance.facts.mysql.reader import MySQL
from appliance.facts.shared import Shared

__all__ = ["MySQL", "denoted", "open"]


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> MySQL:
    """Return a reader, as `facts.readers.open` says."""
    return MySQL(shared, server, needs_catalog)
