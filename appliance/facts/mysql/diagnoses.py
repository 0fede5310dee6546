"""What SHOW WARNINGS, GET DIAGNOSTICS and the like may tell: of the statements before.

Messages of warnings quote values. So they are treated as a read of whatever was touched since the last
statement that is sure to clear them away; one that uses no table leaves them, and so do some that change a schema.
"""

import msgspec

from appliance.facts.mysql.reading import RELATIONS, Names, Reading

MAX_WORDS = 2_000  # names remembered; more: anything may have been touched

_CLEAR = frozenset("SELECT INSERT REPLACE UPDATE DELETE".split())
"""Statements that a server begins, if they use a table, by clearing away what was said before."""

_TOUCHED = ("table", "column", "compared", "copied", "written")


class Diagnoses:
    """Mutable; one for each session."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._tables: Names = frozenset()
        self._columns: Names = frozenset()
        self._unknown = False

    def ran(self, reading: Reading, *, surely: bool = True) -> None:
        """Note a statement that went up; not `surely`: the wire may have refused it all the same."""
        if reading.diagnoses:
            return
        tables = reading.values["table"]
        if surely and tables and reading.values["statement"] <= _CLEAR:
            self.forget()
        self._unknown = self._unknown or bool(reading.unknown & RELATIONS)
        self._tables |= tables
        self._columns = self._columns.union(*(reading.values[key] for key in _TOUCHED[1:]))
        if len(self._tables) + len(self._columns) > MAX_WORDS:
            self._unknown = True

    def told(self, reading: Reading) -> Reading:
        """Return a reading that looks back, with what it may tell of."""
        values = dict(reading.values)
        values["table"] |= self._tables
        values["column"] |= self._columns
        if reading.keeps:
            values["copied"] |= self._columns
        unknown = reading.unknown | (RELATIONS if self._unknown else frozenset())
        why = reading.why or ("what the statement before touched is not known" if self._unknown else "")
        return msgspec.structs.replace(reading, values=values, unknown=unknown, why=why)
