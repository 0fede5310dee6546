"""A catalogue is read again once anybody, on any worker, may have changed what it tells."""

import pytest

from appliance.facts.catalog import CATALOGUE_IN_TRANSACTION
from appliance.facts.shared import ALONE, CELL, Changes, Shared
from tests.facts.mysql import talk as mysql
from tests.facts.talk import CATALOGUE, Talk, client

SSN = "select ssn from users"


def state(isolation: str = "read committed") -> tuple[str, str]:
    return "state", f'["public","acme","",[],"{isolation}"]'


ROWS = [
    ("schema", "public"),
    ("relation", '[1,"public","users","r",false,false,[[1,"id",23],[2,"ssn",25]]]'),
    ("relation", '[2,"public","orders","r",false,false,[[1,"id",23]]]'),
]


class Workers:
    """Two workers, whose memory for what was changed is one."""

    def __init__(self) -> None:
        cells = memoryview(bytearray(CELL * 4096)).cast("Q")
        self.here, self.there = (Shared(Changes(cells, begin)) for begin in (1 << 32, 2 << 32))


def loaded(shared: Shared) -> Talk:
    talk = Talk(needs_catalog=True, shared=shared)
    assert judge(talk) == (CATALOGUE, False)
    return talk


def judge(talk: Talk, isolation: str = "read committed", status: str = "I", meanwhile: tuple[Talk, str] | None = None) -> tuple[str, bool]:
    """Have a statement judged, and answered. Return what was asked before, and whether its relations are unknown then."""
    message = client("query", text=SSN)
    asked = talk.reader.wanted(talk.reader.ask(message))
    if meanwhile is not None:
        meanwhile[0].query(meanwhile[1])
    if asked:
        talk.answer([state(isolation), *ROWS], status=status)
    facts = talk.reader.ask(message)
    talk.reader.sent(message)
    talk.hear("complete", status="OK")
    talk.hear("ready", status=status)
    return asked, "table" in facts.unknown


SURELY = ["create or replace view orders as select 1", "alter table users rename to people", "create function f() returns int language sql as 'select 1'", "drop table users"]


@pytest.mark.parametrize("text", SURELY)
def test_by_a_flow_of_another_worker(text: str) -> None:
    """Before it goes up, so that nothing is judged by what was; and when it is done, for what was read before that."""
    workers = Workers()
    other, talk = loaded(workers.there), loaded(workers.here)
    talk.send("query", text=text)
    assert judge(other) == (CATALOGUE, False)
    assert judge(other) == ("", False)
    talk.hear("complete", status="OK")
    talk.hear("ready", status="I")
    assert judge(other) == (CATALOGUE, False)
    assert judge(other) == ("", False)


def test_while_it_was_read() -> None:
    workers = Workers()
    other, talk = loaded(workers.there), loaded(workers.here)
    talk.query(SURELY[0])
    assert judge(other, meanwhile=(talk, SURELY[1])) == (CATALOGUE, True)
    assert judge(other) == (CATALOGUE, False)


def test_by_a_flow_that_has_the_server_at_another_address() -> None:
    shared = Shared()
    talk = loaded(shared)
    other = Talk(shared=shared, server="[::1]:5432")
    other.query(SURELY[0])
    assert judge(talk) == (CATALOGUE, False)


def test_mysql_by_a_flow_that_has_the_server_at_another_address() -> None:
    shared = Shared()
    talk, other = mysql.Talk(True, shared), mysql.Talk(True, shared, server="[::1]:3306")
    talk.query(SSN)
    other.query("create view v as select 1")
    talk.query(SSN)
    assert talk.asked == [CATALOGUE_MYSQL] * 2


@pytest.mark.parametrize("text", ["create temporary table t (a int)", "create index i on orders (id)", "select 1", "set search_path = a"])
def test_not_by_what_others_do_not_see(text: str) -> None:
    workers = Workers()
    other, talk = loaded(workers.there), loaded(workers.here)
    talk.query(text)
    assert judge(other) == ("", False)


def test_by_what_may_do_anything() -> None:
    workers = Workers()
    other, talk = loaded(workers.there), loaded(workers.here)
    talk.query("select public.f()")
    assert judge(other) == (CATALOGUE, False)


def test_by_what_is_committed_later() -> None:
    workers = Workers()
    other, talk = loaded(workers.there), loaded(workers.here)
    talk.query("begin", "T")
    talk.query(SURELY[0], "T")
    judge(other)
    assert judge(other) == ("", False)
    talk.query("commit")
    assert judge(other) == (CATALOGUE, False)


@pytest.mark.parametrize(("isolation", "stays"), [("read committed", False), ("repeatable read", True), ("serializable", True)])
def test_while_a_transaction_has_a_catalogue_of_its_own(isolation: str, stays: bool) -> None:
    """One that does not see the changes of others reads what was, while its names mean what is."""
    workers = Workers()
    talk, other = loaded(workers.here), loaded(workers.there)
    talk.query("begin", "T")
    talk.query("create table mine (a int)", "T")
    assert judge(talk, isolation, "T") == (CATALOGUE_IN_TRANSACTION, False), "its own changes are in it"
    assert judge(talk, isolation, "T") == ("", False)
    other.query(SURELY[0])
    assert judge(talk, isolation, "T") == (CATALOGUE_IN_TRANSACTION, stays)
    assert judge(talk, isolation, "T") == ("", stays)
    talk.query("commit")
    assert judge(talk) == (CATALOGUE, False)
    assert judge(talk) == ("", False)


def test_mysql() -> None:
    """Of the server, whoever changed it: users have catalogues of their own."""
    workers = Workers()
    other, talk, bob = mysql.Talk(True, workers.there), mysql.Talk(True, workers.here), mysql.Talk(True, workers.there)
    bob.send("change-user", name="bob", status="shop")
    bob.hear("complete", status="OK 0", cursor="ready login")
    for one in (other, talk, bob):
        one.query(SSN)
        one.asked.clear()
    talk.send("query", text="create or replace view v as select note from orders")
    for one in (other, bob):
        assert "table" in one.reader.ask(mysql.client("query", text=SSN)).unknown
        assert not one.query(SSN).unknown
        assert one.asked == [CATALOGUE_MYSQL]
        one.query(SSN)
        assert one.asked == [CATALOGUE_MYSQL]
    talk.hear("complete", status="OK 0", cursor="ready autocommit")
    for one in (other, bob):
        one.query(SSN)
        one.query(SSN)
        assert one.asked == [CATALOGUE_MYSQL] * 2


def test_mysql_a_view_that_is_changed_after_it_was_prepared() -> None:
    workers = Workers()
    other, talk = mysql.Talk(True, workers.there), mysql.Talk(True, workers.here)
    views = [[mysql.row("view", "shop", "v", f"select `shop`.`users`.`{column}` AS `a` from `shop`.`users`"), *mysql.columns("shop", "v", "a")] for column in ("id", "ssn")]
    other.rows = [*mysql.SHOP, *views[0]]
    other.prepare("select a from v", "1")
    assert "shop.users.ssn" not in other.execute("1").values["column"]
    talk.query("create or replace view v as select ssn as a from users")
    other.rows = [*mysql.SHOP, *views[1]]
    assert "shop.users.ssn" in other.execute("1").values["column"]


@pytest.mark.parametrize("text", ["create temporary table t (a int)", "select 1", "use shop", "set names utf8mb4"])
def test_mysql_not_by_what_others_do_not_see(text: str) -> None:
    workers = Workers()
    other, talk = mysql.Talk(True, workers.there), mysql.Talk(True, workers.here)
    other.query(SSN)
    talk.query(text)
    other.query(SSN)
    assert other.asked == [CATALOGUE_MYSQL]


def test_cells() -> None:
    """Each value is new, whoever writes it; without others a process has a few of its own."""
    changes = Changes()
    assert len(changes.cells) == ALONE
    cell = changes.cell("may", "db:5432", "caf\udce9")
    seen = {changes.cells[cell]}
    for _ in range(3):
        changes.mark(cell)
        seen.add(changes.cells[cell])
    assert len(seen) == 4
    assert changes.cell("may", "a", "b") != changes.cell("may", "ab") or len(changes.cells) == 1


CATALOGUE_MYSQL = mysql.CATALOGUE
