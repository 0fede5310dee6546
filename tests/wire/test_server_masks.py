"""Masks between real clients and a real PostgreSQL."""

import asyncio
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import sql

from appliance.model import Address, Column
from tests.wire.clients import MaskBy, connect, masking, stars
from tests.wire.pump import Pump

pytestmark = pytest.mark.peer


COLUMNS = "id, name, ssn, born, amount, notes, tags, raw, ok, score, key, seen, ip"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_masks(people: Address, binary: bool, prepare: bool) -> None:
    plan = MaskBy(stars, "ssn", "hidden", "tags", "raw", "amount")
    with Pump(people, masking(plan)) as pump, connect(pump) as db:
        for _ in range(7):  # past the point where the server's plan becomes generic
            found = db.execute(
                "select id, ssn, ssn as hidden, name, tags, raw, amount, notes from wire.people where id = %s",
                [3], binary=binary, prepare=prepare,
            ).fetchone()  # fmt: skip
            assert found == (
                3, "*******0003", "*******0003", "name3", ["*a3", None, '* "y"'], b"*raw3", None, {"n": 3},
            )  # fmt: skip
        assert db.execute("select ssn from wire.people where id = 100").fetchone() == (None,)
    assert sum(m.masked for m in pump.messages) > 0
    assert pump.errors == []


@pytest.mark.parametrize("binary", [False, True])
def test_every_type_stays_valid(people: Address, binary: bool) -> None:
    """A mask that makes nonsense of a value: text-like types carry it, the others become NULL; the client reads all."""
    with Pump(people, masking(MaskBy(lambda text: "nonsense", "*"))) as pump, connect(pump) as db:
        rows = db.execute(f"select {COLUMNS} from wire.people where id < 3 order by id", binary=binary).fetchall()  # type: ignore[arg-type]
    nonsense = (
        None,
        "nonsense",
        "nonsense",
        None,
        None,
        "nonsense",
        ["nonsense", None, "nonsense"],
        b"nonsense",
    )
    assert rows == [(*nonsense, None, None, None, None, None)] * 2
    assert pump.errors == []


@pytest.mark.parametrize("binary", [False, True])
def test_a_mask_that_finds_nothing_changes_nothing(people: Address, binary: bool) -> None:
    with Pump(people) as plain, connect(plain) as db:
        rows = db.execute(f"select {COLUMNS} from wire.people order by id", binary=binary).fetchall()  # type: ignore[arg-type]
    seen: list[str] = []
    with (
        Pump(people, masking(MaskBy(lambda text: seen.append(text) or text, "*"))) as pump,
        connect(pump) as db,
    ):  # type: ignore[func-returns-value]
        assert db.execute(f"select {COLUMNS} from wire.people order by id", binary=binary).fetchall() == rows  # type: ignore[arg-type]
    assert {"123-45-0007", "name7", "10.50", "raw7", "1980-01-08"} <= set(seen)
    assert sum(m.masked for m in pump.messages) == 0


def test_masks_by_cursor(people: Address) -> None:
    with Pump(people, masking(MaskBy(stars, "ssn"))) as pump, connect(pump) as db:
        with db.cursor("c", withhold=False) as cursor:
            cursor.itersize = 4
            assert all(r[0].startswith("*******") for r in cursor.execute("select ssn from wire.people where id < 20"))
        with db.cursor() as cursor:
            found = [r[0] for r in cursor.stream("select ssn from wire.people where id < 5", size=1)]
            assert all(ssn.startswith("*******") for ssn in found)
        db.execute("prepare q as select ssn s from wire.people where id = $1")
        assert db.execute("execute q(5)").fetchone() == ("123-45-0005",)  # by name here; the facts know better
    assert pump.errors == []


def test_masks_for_asyncpg(people: Address) -> None:
    """asyncpg prepares with a Describe of the statement, then binds binary and executes without describing."""

    async def work(port: int) -> None:
        db = await asyncpg.connect(host="127.0.0.1", port=port, user="tester", password="secret", database="shop")
        statement = await db.prepare("select id, ssn, tags, seen, amount from wire.people where id = $1")
        for i in (1, 2, 3):
            found = await statement.fetchrow(i)
            assert found["ssn"] == f"*******000{i}"
            assert found["amount"] is None
            assert found["tags"][1] is None
        async with db.transaction():
            cursor = await db.cursor("select ssn from wire.people where id < 20 order by id")
            while rows := await cursor.fetch(6):
                assert all(r["ssn"].startswith("*******") for r in rows)
        rows = await db.fetch("select ssn from wire.people where ssn is not null")
        assert all(r["ssn"].startswith("*******") for r in rows)
        await db.close()

    with Pump(people, masking(MaskBy(stars, "ssn", "amount", "tags"))) as pump:
        asyncio.run(work(pump.port))
    assert pump.errors == []
    assert sum(m.masked for m in pump.messages) >= 45


FORMATS = [
    ("", {"format": "text"}),
    ("(delimiter '|', null 'NIX')", {"format": "text", "delimiter": "|", "null": "NIX"}),
    ("(format csv, header)", {"format": "csv", "header": True}),
    ("(format csv, delimiter ';', quote '''', escape '\\', null 'NIX', force_quote *)",
     {"format": "csv", "delimiter": ";", "quote": "'", "escape": "\\", "null": "NIX"}),
    ("(format binary)", {"format": "binary"}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), FORMATS, ids=[f[0] for f in FORMATS])
@pytest.mark.parametrize("piece", [5, 65536])
def test_masks_copy(people: Address, options: str, said: dict[str, Any], piece: int) -> None:
    """What a masked COPY sends loads again, and holds the masked values."""
    columns = (
        Column("id", type=23),
        Column("ssn", type=25),
        Column("name", type=25),
        Column("amount", type=1700),
    )
    plan = MaskBy(stars, "ssn", "amount", columns=columns, **said)
    wrote = "insert into wire.people (id, ssn, name) values (50, E'a\\tb\\\\c\\nd\"|;''x', 'n')"
    with (
        Pump(people, masking(plan), piece) as pump,
        connect(pump) as db,
        connect(pump, autocommit=True) as clean,
    ):
        db.execute(wrote)  # type: ignore[arg-type]
        with db.cursor().copy(
            f"copy (select id, ssn, name, amount from wire.people order by id) to stdout {options}"
        ) as copy:  # type: ignore[arg-type]
            data = b"".join(copy)
        clean.execute("create temp table back (id int, ssn text, name text, amount numeric)")
        with clean.cursor().copy(f"copy back from stdin {options}".replace(", force_quote *", "")) as load:  # type: ignore[arg-type]
            load.write(data)
        with Pump(people) as plain, connect(plain) as direct:
            assert direct.execute("select count(*) from wire.people").fetchone() == (21,)
        rows = clean.execute(sql.SQL("select id, ssn::varchar as s, name from back order by id")).fetchall()
        assert rows[0] == (1, "*******0001", "name1")
        assert rows[20] == (50, "*" * (len("a\tb\\c\nd\"|;'x") - 4) + "|;'x", "n")
        assert rows[21] == (100, None, None)
        assert clean.execute("select count(amount) from back").fetchone() == (0,)
        db.rollback()
    assert pump.errors == []


def test_copy_of_unknown_format_is_not_let_through(people: Address) -> None:
    refused = pytest.raises(psycopg.Error)
    with Pump(people, masking(MaskBy(stars, "*"))) as pump, connect(pump) as db, refused:
        with db.cursor().copy("copy wire.people to stdout") as copy:
            assert list(copy) == []
    assert pump.errors == ["a COPY whose format is not known cannot be masked"]
