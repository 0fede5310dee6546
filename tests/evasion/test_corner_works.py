"""What must still work beside masks: unprotected columns arrive whole and typed, in text and binary, for every driver.

test_corner_cases.py says what is where.
"""

import asyncio
import datetime
import decimal
import ipaddress
import json
import subprocess
import uuid
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row

from appliance.lab.servers import Postgres, postgres_bin
from tests.evasion import talk
from tests.evasion.talk import Talk, address, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer


def rules(columns: str, method: str) -> str:
    return f"rules:\n  - {{id: hide, when: {{column: [{columns}]}}, do: mask, with: {method}}}\n  - {{id: all, do: allow}}\n"


@pytest.fixture(scope="module")
def gate(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), rules("public.typed.ssn", "redact")) as gate:
        yield gate


class TestTypes:
    """Every type beside a masked column, by both formats, as direct."""

    @pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
    @pytest.mark.parametrize("text", ["select * from typed order by id", "select t.* from typed t order by id", "select jba, na, ia, ssn, j, jb, b, ts from typed order by id"])
    def test_bytes_are_the_servers(self, gate: Gate, corner: Postgres, text: str, binary: bool) -> None:
        with Talk(gate.port, database="corner") as line, Talk(corner.port, database="corner") as direct:
            got, sent = (one.ask(talk.extended(text, binary)) for one in (line, direct))
            assert [frame for frame in got if frame[0] != "D"] == [frame for frame in sent if frame[0] != "D"]
            for mine, theirs in zip(talk.rows(got), talk.rows(sent), strict=True):
                changed = [n for n, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
                assert len(changed) <= 1
            assert not shown(line.seen)

    @pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
    def test_psycopg_reads_python_values(self, gate: Gate, binary: bool) -> None:
        with talk.connect(gate.port) as connection, connection.cursor(binary=binary, row_factory=dict_row) as cursor:
            row = cursor.execute("select * from typed order by id").fetchone()
            assert row is not None
            want = {"id": 1, "ssn": "[redacted]", "i2": 2, "i8": 8000000000, "f8": 1.5, "n": decimal.Decimal("12.340"), "b": True, "t": "text", "v": "vc", "c": "ch ",
                    "d": datetime.date(2026, 5, 5), "ts": datetime.datetime(2026, 5, 5, 10), "iv": datetime.timedelta(days=1, hours=2), "u": uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                    "j": {"a": [1, None]}, "jb": {"b": "c"}, "by": b"\x00\xff", "ip": ipaddress.ip_interface("10.1.2.3/24"), "ia": [[1, 2], [3, 4]], "ta": ["a", None, "b c"],
                    "na": [decimal.Decimal("1.5"), None], "jba": [{"z": 1}], "o": 77}  # fmt: skip
            assert {key: row[key] for key in want} == want
            assert set(cursor.fetchone().values()) == {2, None}

    def test_asyncpg_reads_binary(self, gate: Gate) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(host="127.0.0.1", port=gate.port, user="acme", password="secret", database="corner", ssl=False)
            try:
                columns = "id, ssn, i2, i8, f8, n, b, t, v, c, d, ts, tz, iv, u, j, jb, by, ip, ia, ta, r, p, bits, o, na, jba"
                first, second = await connection.fetch(f"select {columns} from typed order by id")
                assert first["ssn"] == "[redacted]"
                assert (first["i8"], first["ia"], first["u"].hex[:4], first["r"].upper) == (8000000000, [[1, 2], [3, 4]], "a0ee", 5)
                assert set(second.values()) == {2, None}
                assert await connection.fetchval("select ssn from typed where id = $1", 1) == "[redacted]"
                statement = await connection.prepare("select ssn, t from typed where id = any($1::int[])")
                assert [tuple(r) for r in await statement.fetch([1])] == [("[redacted]", "text")]
                async with connection.transaction():
                    rows = [r["ssn"] async for r in connection.cursor("select ssn from typed order by id", prefetch=1)]
                assert rows == ["[redacted]", None]
            finally:
                await connection.close()

        asyncio.run(main())


MASKABLE = {
    "i2": int, "i8": int, "f8": float, "n": decimal.Decimal, "b": bool, "t": str, "v": str, "c": str, "d": datetime.date, "ts": datetime.datetime, "tz": datetime.datetime, "iv": datetime.timedelta,
    "u": uuid.UUID, "j": (dict, list, str, int), "jb": (dict, list, str, int), "by": bytes, "ip": object, "mac": str, "ia": list, "ta": list, "m": str, "r": object, "x": str, "p": str, "bits": str, "o": int, "na": list, "jba": list,
}  # fmt: skip


def leaves(value: object) -> Iterator[object]:
    """Yield what is in a row, arrays and JSON taken apart: their shape stays."""
    if isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


class TestMaskedTypes:
    """The masked column itself stays a value of its type, or NULL."""

    @pytest.mark.parametrize("method", ["redact", "keep-last-4", "hash", "'null'", "{fixed: '7'}"])
    @pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
    def test_a_driver_reads_it(self, corner: Postgres, method: str, binary: bool) -> None:
        columns = ", ".join(f"public.typed.{name}" for name in MASKABLE)
        with talk.connect(corner.port) as direct:
            clear = direct.execute(f"select {', '.join(MASKABLE)} from typed where id = 1", binary=binary).fetchone()
        with Gate(address(corner.port), rules(columns, method)) as gate, talk.connect(gate.port) as connection:
            cursor = connection.execute(f"select {', '.join(MASKABLE)} from typed where id = 1", binary=binary)
            row = cursor.fetchone()
            assert row is not None
            assert clear is not None
            for name, value, was in zip(MASKABLE, row, clear, strict=True):
                assert value is None or isinstance(value, MASKABLE[name]), name
                assert value is None or value != was or method == "{fixed: '7'}", f"{name} arrived"
            if method == "'null'":
                assert set(leaves(row)) == {None}

    def test_json_stays_json(self, corner: Postgres) -> None:
        with Gate(address(corner.port), rules("public.typed.j, public.typed.jb, public.typed.jba, public.users.profile", "redact")) as gate, Talk(gate.port, database="corner") as line:
            for text in ("select j, jb, jba from typed", "select to_json(t) from typed t", "select json_agg(t) from typed t", "select profile, jsonb_build_object('p', profile) from users"):
                for asked in (talk.query(text), talk.extended(text, binary=True)):
                    for row in talk.rows(line.ask(asked)):
                        for cell in row:
                            if cell is not None and cell[:1] in b'{["' and b"\0" not in cell and not cell.startswith(b"{NULL") and not cell.startswith(b'{"\\"'):
                                json.loads(cell)
            with talk.connect(gate.port) as connection:
                for (value,) in connection.execute("select to_jsonb(u) from users u"):
                    assert value is None or isinstance(value, dict | str)

    def test_arrays_element_by_element(self, corner: Postgres) -> None:
        with Gate(address(corner.port), rules("public.typed.ta, public.typed.ia, public.typed.na", "redact")) as gate, talk.connect(gate.port) as connection:
            for binary in (False, True):
                ta, ia, na = connection.execute("select ta, ia, na from typed where id = 1", binary=binary).fetchone() or ()
                assert ta == ["[redacted]", None, "[redacted]"]
                assert ia is None or ia == [[None, None], [None, None]]
                assert na is None or na == [None, None]

    def test_a_detector_changes_what_it_finds_and_no_more(self, corner: Postgres) -> None:
        text = "rules:\n  - {id: cards, when: {detect: [credit_card]}, do: mask, with: keep-last-4}\n  - {id: all, do: allow}\n"
        with Gate(address(corner.port), text) as gate, talk.connect(gate.port) as connection:
            for binary in (False, True):
                got = connection.execute("select card, 'pay ' || card || ' now', id, tags, profile from users order by id", binary=binary).fetchall()
                assert str(got[0][0]).endswith("1111")
                assert "4111" not in str(got[0][0])
                assert str(got[0][1]).startswith("pay *")
                assert str(got[0][1]).endswith("1111 now")
                assert got[0][2:] == (1, ["a", "123-45-6789"], {"ssn": "123-45-6789", "n": 1})
                assert got[2] == (None, None, 3, None, None) or got[2][:3] == (None, None, 3)


class TestDrivers:
    def test_named_tuples_server_cursors_and_executemany(self, writer: Gate) -> None:
        with talk.connect(writer.port, row_factory=namedtuple_row) as connection:
            with connection.transaction(), connection.cursor("c", scrollable=True) as cursor:
                cursor.itersize = 2
                cursor.execute("select id, ssn, name from users order by id")
                assert [(r.id, r.ssn, r.name) for r in cursor] == [(1, "[redacted]", "Ada"), (2, "[redacted]", "Grace"), (3, None, "Edsger")]
                cursor.scroll(0, mode="absolute")
                assert cursor.fetchone()[1] == "[redacted]"
            with connection.transaction(force_rollback=True), connection.cursor() as many:
                many.executemany("insert into users (id, name, ssn) values (%s, %s, %s) returning id, ssn", [(n, "x", f"{n}") for n in range(100, 103)], returning=True)
                assert [many.fetchone() for _ in iter(many.nextset, None)]
                assert connection.execute("select count(*) from users").fetchone()

    def test_streamed_row_by_row(self, reader: Gate) -> None:
        with talk.connect(reader.port) as connection, connection.cursor() as cursor:
            assert list(cursor.stream("select id, ssn from users order by id")) == [(1, "[redacted]"), (2, "[redacted]"), (3, None)]

    def test_psql_describes_and_shows(self, reader: Gate) -> None:
        words = [str(postgres_bin() / "psql"), "-XA", f"host=127.0.0.1 port={reader.port} user=acme password=secret dbname=corner sslmode=disable"]
        for command in (r"\d users", r"\dt", r"\dv+", r"\df", r"\du", r"\l", r"\dn", r"\d+ events", r"\sf peek", r"\conninfo"):
            done = subprocess.run([*words, "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)
        done = subprocess.run([*words, "-x"], input="select * from users \\gdesc\nselect id, ssn from users order by 1;\n\\bind 1\n", capture_output=True, text=True)
        assert "ssn|[redacted]" in done.stdout

    def test_rows_larger_than_any_buffer(self, reader: Gate) -> None:
        with talk.connect(reader.port) as connection:
            value = connection.execute("select u.ssn, u.name || repeat('x', 3000000), o.note from users u join orders o on o.id = u.id where u.id = 1").fetchone()
            assert value is not None
            assert (value[0], value[2]) == ("[redacted]", "first")
            assert connection.execute("select length(repeat('x', 20000000))").fetchone() == (20000000,)
            big = connection.execute("select repeat('y', 20000000)").fetchone()
            assert big is not None
            assert len(str(big[0])) == 20000000

    def test_many_rows(self, reader: Gate) -> None:
        with talk.connect(reader.port) as connection:
            for binary in (False, True):
                rows = connection.execute("select g, u.ssn, u.name from users u, generate_series(1, 20000) g where u.id = 1", binary=binary).fetchall()
                assert len(rows) == 20000
                assert {row[1:] for row in rows} == {("[redacted]", "Ada")}

    def test_a_client_that_was_refused_goes_on(self, reader: Gate) -> None:
        with talk.connect(reader.port) as connection:
            for _ in range(3):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("drop table users")
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute("delete from users where id = %s", (1,), prepare=True)
                assert connection.execute("select id from users where id = %s", (1,), prepare=True).fetchone() == (1,)
