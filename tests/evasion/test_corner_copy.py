"""COPY in every direction and format: masked, refused, and what of it must still work.

test_corner_cases.py says what is where.
"""

import csv
import io
import struct
from collections.abc import Iterator

import psycopg
import pytest

from appliance.lab.servers import Postgres
from tests.evasion import talk
from tests.evasion.talk import SYNC, Talk, address, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer

HEAD = """
rules:
  - id: hide
    when:
      column: [public.users.ssn, public.users.tags, public.users.profile, public.quotes.ssn, public.vault.ssn, public.vault.badge]
    do: mask
    with: redact
"""
RULES = HEAD + "  - {id: all, do: allow}\n"


@pytest.fixture(scope="module")
def gate(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), RULES) as gate:
        yield gate


@pytest.fixture
def line(gate: Gate) -> Iterator[Talk]:
    with Talk(gate.port, database="corner") as line:
        yield line


@pytest.fixture
def direct(corner: Postgres) -> Iterator[Talk]:
    with Talk(corner.port, database="corner") as line:
        yield line


def data(frames: list[talk.Frame]) -> bytes:
    return b"".join(body for tag, body in frames if tag == "d")


DIALECTS = {
    "plain": ("format csv", {}),
    "header": ("format csv, header", {}),
    "header by word": ("format csv, header true", {}),
    "force quote": ("format csv, force_quote *", {}),
    "force quote of some": ("format csv, force_quote (id, note)", {}),
    "delimiter": ("format csv, delimiter ';'", {"delimiter": ";"}),
    "delimiter is a letter": ("format csv, delimiter 'q'", {"delimiter": "q"}),
    "delimiter is a tab": (r"format csv, delimiter E'\t'", {"delimiter": "\t"}),
    "quote": ("format csv, quote ''''", {"quotechar": "'"}),
    "quote is a digit": ("format csv, quote '4'", {"quotechar": "4"}),
    "escape": ("format csv, escape '~'", {"escapechar": "~", "doublequote": False}),
    "quote and escape": ("format csv, quote '|', escape '!'", {"quotechar": "|", "escapechar": "!", "doublequote": False}),
    "null": ("format csv, null 'NULL'", {}),
    "null is a value's text": ("format csv, null '[redacted]'", {}),
    "null is empty and quoted": ("format csv, null '', force_quote (ssn)", {}),
    "options in old words": ("csv header delimiter ';' quote '''' null 'x'", {"delimiter": ";", "quotechar": "'"}),
}


class TestOutCsv:
    """Quotes, escapes, line ends in values: the columns beside a masked one arrive as they are."""

    @pytest.mark.parametrize(("options", "dialect"), DIALECTS.values(), ids=DIALECTS.keys())
    @pytest.mark.parametrize("source", ["quotes", "quotes (note, ssn, id)", "(select id, ssn, note from quotes)", "(table quote_view)"])
    def test_dialects(self, line: Talk, direct: Talk, source: str, options: str, dialect: dict[str, str]) -> None:
        if "force quote of some" in options and "view" in source:
            return
        text = f"copy {source} to stdout " + (f"({options})" if options.startswith("format") else options)
        tables = []
        for one in (line, direct):
            got = one.ask(talk.query(text))
            assert talk.tags(got).endswith("cCZ"), got
            tables.append(list(csv.reader(io.StringIO(data(got).decode(), newline=""), **dialect)))  # type: ignore[arg-type]
        assert not shown(line.seen)
        assert len(tables[0]) == len(tables[1])
        place = {"quotes (note, ssn, id)": 1, "(table quote_view)": 2}.get(source, 1)
        for mine, theirs in zip(*tables, strict=True):
            assert mine[:place] + mine[place + 1 :] == theirs[:place] + theirs[place + 1 :]
            assert len(mine) == len(theirs)


def test_an_encoding_of_its_own_is_refused_where_masks_are(line: Talk) -> None:
    """The bytes of such a COPY are not those of client_encoding, so they could not be read."""
    for word in ("UTF8", "LATIN1", "SJIS"):
        assert talk.codes(line.ask(talk.query(f"copy users to stdout (encoding '{word}')"))) == ["42501"]


class TestOutText:
    @pytest.mark.parametrize("options", ["", "(delimiter '|')", r"(null 'N')", "delimiter ','", "(format text, delimiter E'\\x01')", "(format 'text', header)"])
    @pytest.mark.parametrize("source", ["quotes", "quotes (note, ssn)", "(select note, ssn from quotes)", "quotes (ssn)"])
    def test_text(self, line: Talk, direct: Talk, source: str, options: str) -> None:
        got, sent = (data(one.ask(talk.query(f"copy {source} to stdout {options}"))) for one in (line, direct))
        assert got.count(b"\n") == sent.count(b"\n") > 3
        assert not shown(line.seen)
        if "(ssn)" not in source:
            assert rb"e\tf" in got

    @pytest.mark.parametrize("text", [
        "copy users to stdout", "copy only users to stdout", "copy public.users to stdout", 'copy "users" ("ssn") to stdout',
        "copy users (ssn, id) to stdout", "copy (select ssn as id, id as ssn from users) to stdout", "copy (select lower(ssn) from users) to stdout",
        "copy (table users) to stdout", "copy (values ((select ssn from users limit 1))) to stdout", "copy (select u from users u) to stdout",
        "copy (update users set name = name returning ssn) to stdout", "copy (with t as (select ssn from users) select * from t) to stdout",
        "begin; copy users to stdout; commit", "copy users to stdout; copy users (ssn) to stdout", "select 1; copy quotes (ssn) to stdout with csv",
        r"copy quotes to stdout (format csv, escape '\')", "copy users to stdout using delimiters ','", "copy user_copy to stdout", "copy (select ssn from users union all select note from orders) to stdout",
        "prepare s as select ssn from users; copy (select 1) to stdout", "copy vault to stdout", "copy vault (badge, ssn) to stdout",
    ])  # fmt: skip
    @pytest.mark.parametrize("way", ["simple", "extended"])
    def test_no_secret_in_any_form_of_it(self, line: Talk, text: str, way: str) -> None:
        if way == "simple":
            line.ask(talk.query(text))
        else:
            for one in text.split("; "):
                line.ask(talk.extended(one))
        assert not shown(line.seen)
        assert b"1234567" not in line.seen
        line.ask(talk.query("rollback"))

    def test_in_pieces_cut_anywhere(self, line: Talk) -> None:
        text = "copy (select u.id, u.ssn, repeat('x', 3000) from users u, generate_series(1, 500)) to stdout"
        got = data(line.ask(talk.query(text)))
        assert got.count(b"\n") == 1500
        assert not shown(line.seen)


class TestOutBinary:
    @pytest.mark.parametrize("source", ["vault", "(select id, ssn, badge, born, token, pay, flags from vault)"])
    def test_typed(self, line: Talk, direct: Talk, source: str) -> None:
        got, sent = (data(one.ask(talk.query(f"copy {source} to stdout (format binary)"))) for one in (line, direct))
        mine, theirs = unpacked(got), unpacked(sent)
        assert len(mine) == len(theirs) == 1
        assert mine[0][1] in {None, b"[redacted]"}  # the server does not tell the types of a binary COPY
        assert mine[0][2] is None
        assert mine[0][:1] + mine[0][3:] == theirs[0][:1] + theirs[0][3:]

    def test_read_by_psycopg(self, gate: Gate) -> None:
        with talk.connect(gate.port) as connection, connection.cursor().copy("copy users (id, ssn, name, tags) to stdout (format binary)") as copy:
            copy.set_types(["int4", "text", "text", "text[]"])
            assert [row[:3] for row in copy.rows()] == [(1, None, "Ada"), (2, None, "Grace"), (3, None, "Edsger")]


def unpacked(stream: bytes) -> list[list[bytes | None]]:
    """Read a binary COPY. Source: PostgreSQL 17 manual, "COPY", "Binary Format"."""
    assert stream.startswith(b"PGCOPY\n\xff\r\n\0")
    at, out = 19, []
    while (count := struct.unpack_from("!h", stream, at)[0]) >= 0:
        out.append(talk.cells(stream[at:end(stream, at, count)]))
        at = end(stream, at, count)
    assert stream[at:] == b"\xff\xff"
    return out


def end(stream: bytes, at: int, count: int) -> int:
    at += 2
    for _ in range(count):
        at += 4 + max(struct.unpack_from("!i", stream, at)[0], 0)
    return at


class TestIn:
    REFUSES = HEAD + "  - {id: no-users, when: {table: [public.users]}, do: block}\n  - {id: all, do: allow}\n"
    HOLDS = HEAD + "  - {id: ask, when: {copy: [in]}, do: approve, approvers: {group: dba}}\n  - {id: all, do: allow}\n"

    @pytest.mark.parametrize("text", ["copy users from stdin", "copy users (id, name, ssn) from stdin with csv", "copy users from stdin (format binary)",
                                      "copy public.users from stdin where id > 5"])  # fmt: skip
    @pytest.mark.parametrize("way", ["query", "pipelined"])
    def test_into_what_rules_refuse(self, corner: Postgres, text: str, way: str) -> None:
        rows = talk.frame("d", b"50,x,y\n") + talk.DONE
        with Gate(address(corner.port), self.REFUSES) as gate, Talk(gate.port, database="corner") as line:
            if way == "query":
                got = line.ask(talk.query(text) + rows)
            else:
                got = line.ask(talk.parse(text) + talk.bind() + talk.execute() + SYNC + rows + SYNC + talk.query("select 1"), 3)
            assert talk.codes(got) == ["42501"]
            assert "G" not in talk.tags(got)
            assert talk.rows(line.ask(talk.query("select 2"))) == [[b"2"]]
        assert corner.admin("select count(*) from users where id = 50", "corner") == "0"

    @pytest.mark.parametrize("format", ["text", "csv", "binary"])
    def test_into_a_protected_table_where_writes_are_allowed(self, gate: Gate, format: str) -> None:
        with talk.connect(gate.port) as connection:
            connection.execute("begin")
            with connection.cursor().copy(f"copy users (id, name, ssn) from stdin (format {format})") as copy:
                if format == "csv":
                    copy.write("60,new,555-55-5555\n61,other,\n")
                else:
                    copy.set_types(["int4", "text", "text"])
                    copy.write_row((60, "new", "555-55-5555"))
                    copy.write_row((61, "other", None))
            got = connection.execute("select id, name, ssn from users where id >= 60 order by id").fetchall()
            assert got == [(60, "new", "[redacted]"), (61, "other", None)]
            connection.execute("rollback")

    @pytest.mark.parametrize("row", ["1\tx\t111-22-3333", "70\tx\t123-45-6789", "71", "x\ty\tz"])
    def test_errors_of_it_quote_nothing_stored(self, line: Talk, row: str) -> None:
        line.ask(talk.query("begin"))
        line.send(talk.query("copy users (id, name, ssn) from stdin") + talk.frame("d", row.encode() + b"\n") + talk.DONE)
        got = line.until()
        assert talk.codes(got)
        assert set(talk.fields(got[-2][1])) <= set("SVCM")
        assert not shown(line.seen)

    def test_given_up(self, line: Talk) -> None:
        line.send(talk.query("copy orders from stdin") + talk.frame("d", b"1\t") + talk.frame("f", b"changed my mind\0"))
        assert talk.codes(line.until()) == ["57014"]
        assert talk.rows(line.ask(talk.query("select 1"))) == [[b"1"]]

    def test_syncs_in_the_middle_are_swallowed(self, line: Talk, direct: Talk) -> None:
        told = []
        for one in (line, direct):
            one.ask(talk.query("create temp table taken (a int)"))
            copy = talk.parse("copy taken from stdin") + talk.bind() + talk.execute() + SYNC
            got = one.ask(copy + talk.frame("d", b"1\n") + SYNC + talk.FLUSH + talk.frame("d", b"2\n") + talk.DONE + SYNC)
            told.append((talk.tags(got), talk.rows(one.ask(talk.query("select count(*) from taken")))))
        assert told[0] == told[1]

    @pytest.mark.parametrize("approved", [True, False])
    def test_held(self, corner: Postgres, approved: bool) -> None:
        """The data behind a held COPY waits with it."""
        with Gate(address(corner.port), self.HOLDS) as gate, Talk(gate.port, database="corner") as line:
            line.ask(talk.query("create temp table taken (a int)"))
            line.send(talk.query("copy taken from stdin") + talk.frame("d", b"1\n2\n") + talk.DONE)
            gate.say(gate.wait_question(), approved)
            assert talk.codes(line.until()) == ([] if approved else ["42501"])
            assert talk.rows(line.ask(talk.query("select count(*) from taken"))) == [[b"2" if approved else b"0"]]

    def test_a_query_in_the_middle_of_the_data(self, line: Talk, corner: Postgres) -> None:
        line.send(talk.query("copy orders from stdin"))
        line.until("G")
        line.send(talk.query("drop table orders"))
        line.rest()
        assert corner.admin("select to_regclass('orders')", "corner") == "orders"


class TestFilesAndPrograms:
    TEXTS = (
        "copy orders to '/tmp/out'", "copy orders from '/etc/passwd'", "copy orders to program 'cat'", "copy orders from program 'id'",
        "copy (select 1) to program 'id'", "copy (select 1) to '/tmp/out'", "copy orders to program $$id$$", "copy orders from program E'i\\x64'",
        "copy binary orders to '/tmp/out'", "select 1; copy orders from program 'id'",
    )  # fmt: skip

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("way", ["simple", "extended"])
    def test_refused_to_who_may_copy(self, corner: Postgres, text: str, way: str) -> None:
        rules = "rules:\n  - {id: copies, when: {effect: [read, write, copy, session], copy: [in, out]}, do: allow}\n  - {id: reads, when: {effect: [read, session]}, do: allow}\n"
        with Gate(address(corner.port), rules) as gate, Talk(gate.port, "tester", "corner") as line:
            for one in [text] if way == "simple" else text.split("; ")[-1:]:
                got = line.ask(talk.query(one) if way == "simple" else talk.extended(one))
            assert talk.codes(got) == ["42501"]
            assert "denied by vendorgate" in talk.fields(next(body for tag, body in got if tag == "E"))["M"]


def test_copy_columns_that_changed_since_the_catalogue_was_read(gate: Gate, corner: Postgres) -> None:
    """A column dropped by someone else: the columns of the COPY no longer agree with what is known, so nothing passes unmasked."""
    corner.admin("create table shifting (a int, b text, ssn text); grant all on shifting to acme; insert into shifting values (1, 'b', 'x')", "corner")
    rules = "rules:\n  - {id: hide, when: {column: [public.shifting.ssn]}, do: mask, with: redact}\n  - {id: all, do: allow}\n"
    with Gate(address(corner.port), rules) as other, Talk(other.port, database="corner") as line:
        assert talk.rows(line.ask(talk.query("select ssn from shifting"))) == [[b"[redacted]"]]
        corner.admin(f"alter table shifting drop column b; update shifting set ssn = '{talk.SECRETS[0]}'", "corner")
        line.ask(talk.query("copy shifting to stdout"))
        line.rest() if not line.seen.endswith(b"I") else None
        assert not shown(line.seen)
    corner.admin("drop table shifting", "corner")


def test_psycopg_sees_a_refused_copy_as_an_error(corner: Postgres) -> None:
    with Gate(address(corner.port), TestIn.REFUSES) as gate, talk.connect(gate.port) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.cursor().copy("copy users from stdin") as copy:
            copy.write(b"1\n")
        assert connection.execute("select 1").fetchone() == (1,)
