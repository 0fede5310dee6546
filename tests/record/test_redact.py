"""What --redact takes out is in no format, and what is left is a session that Wireshark reads."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.lab.servers import Postgres
from appliance.model import Address, Column, ConfigError, Flow, Named, Note
from appliance.record import escapes
from appliance.record.export import FORMATS
from appliance.record.frame import Frame
from appliance.record.redact import covered, covered_raw, literals, withheld
from appliance.service import redaction
from appliance.service.redaction import redaction as made
from tests.gate import Gate
from tests.record import dialogue as d
from tests.record.samples import PSQL, C, S, T, closed, flow, opened
from tests.record.test_pcapng import complaints, export, fields, frames, needs_tshark

SSN, CARD, MAIL = "078-05-1120", "4111 1111 1111 1111", "ada@example.com"
FACTS = (("effect", ("read",)), ("table", ("public.users",)))


def redacted(found: Iterable[Frame], *words: str, **patterns: str) -> list[Frame]:
    return list(made(words, patterns).frames(found))


def everything(found: Sequence[Frame]) -> bytes:
    """Return what all formats say of the frames, and what is in their bytes."""
    return b"".join(b"".join(make(found)) for make in FORMATS.values()) + b"".join(f.note.raw for f in found)


def asks(text: str, *, column: Sequence[str] = (), unknown: Sequence[str] = (), **keys: Sequence[str]) -> Note:
    facts = (*FACTS, ("column", tuple(column)), *((key, tuple(values)) for key, values in keys.items()))
    facts += (("unknown", tuple(unknown)),) if unknown else ()
    return Note("message", text, C, "query", d.query(text), count=1, facts=facts)


def answer(*names: str, rows: Sequence[Sequence[str | None]], known: bool = True) -> Note:
    """Columns are those of public.users, by their own names, in the order id, name, ssn."""
    order = ("id", "name", "ssn")
    columns = tuple(Named(Column(n, 16_400, i, 25), (f"public.users.{order[i - 1]}",)) for i, n in enumerate(names, 1))
    raw = d.columns(*names) + b"".join(d.row(*row) for row in rows) + d.complete(f"SELECT {len(rows)}") + d.READY
    note = d.server("ready", raw, f"SELECT {len(rows)}", len(rows))
    return msgspec.structs.replace(note, columns=columns if known else ())


def session(*notes: Note) -> list[Frame]:
    return frames([opened(), *d.LOGIN, *notes, *d.BYE])


# -- columns ----------------------------------------------------------------------------------------------------


def test_a_column_is_hidden_and_the_others_are_not() -> None:
    found = session(asks("select * from users", column=["public.users.*"]), answer("id", "name", "who", rows=[["17", "Ada", SSN]]))
    out = redacted(found, "column:public.users.ssn")
    said = everything(out)
    assert SSN.encode() not in said
    (row,) = [f for f in out if f.note.columns]
    assert d.row("17", "Ada", "[redacted]") in row.note.raw and row.note.masked == 1
    assert [f.size for f in out if not f.note.columns] == [f.size for f in found if not f.note.columns]


def test_where_the_origin_is_not_known_all_of_a_table_that_has_it_is_hidden() -> None:
    found = session(asks("select x from users", column=["public.users.ssn"]), answer("x", "y", rows=[["17", SSN]], known=False))
    out = redacted(found, "column:public.users.ssn")
    assert d.row("[redacted]", "[redacted]") in out[-3].note.raw


def test_another_table_is_left_alone() -> None:
    other = msgspec.structs.replace(asks("select '1' from t"), facts=(("effect", ("read",)), ("table", ("public.t",))))
    found = session(other, answer("x", rows=[["17"]], known=False))
    out = redacted(found, "column:public.users.ssn")
    assert [f.note for f in out] == [f.note for f in found]


@pytest.mark.parametrize("how", ["compared", "copied", "written"])
def test_statements_that_may_hold_its_values_have_them_covered(how: str) -> None:
    sql = f"select name, 1 from users where ssn = '{SSN}' and id < 4711"
    found = session(asks(sql, **{how: ["public.users.ssn"]}), answer("name", rows=[["Ada"]]))
    out = redacted(found, "column:public.users.ssn")
    said = everything(out)
    assert SSN.encode() not in said and b"4711" not in said
    (query,) = [f.note for f in out if f.note.message == "query"]
    assert query.text == f"select name, * from users where ssn = {'*' * 13} and id < ****"
    assert query.raw == d.query(query.text)


def test_statements_that_only_read_it_are_left_alone() -> None:
    sql = "select ssn from users where id = 4711"
    out = redacted(session(asks(sql, column=["public.users.ssn"], compared=["public.users.id"])), "column:public.users.ssn")
    assert [f.note.text for f in out if f.note.message == "query"] == [sql]


def test_a_statement_that_was_not_understood_has_its_values_covered() -> None:
    sql = f"select magic('{SSN}')"
    found = session(asks(sql, unknown=["table", "column", "compared", "copied", "written"]))
    assert SSN.encode() not in everything(redacted(found, "column:public.users.ssn"))


def test_what_is_said_of_a_statement_elsewhere_is_covered_too() -> None:
    sql = f"update users set ssn = '{SSN}'"
    held = Note("asked", sql, decision=d.ASK_DBA, id="q")
    found = session(asks(sql, written=["public.users.ssn"]), held, Note("decision", sql, decision=d.READS, id="f1-9"))
    assert SSN.encode() not in everything(redacted(found, "column:public.users.ssn"))


def test_a_record_without_facts_is_hidden_as_if_it_touched_everything() -> None:
    """As those written by versions that kept none."""
    sql = f"select ssn from users where ssn = '{SSN}'"
    found = session(Note("message", sql, C, "query", d.query(sql)), answer("ssn", rows=[[SSN]], known=False))
    said = everything(redacted(found, "column:public.users.ssn"))
    assert SSN.encode() not in said and b"from users" in said


def test_rows_of_a_copy_into_the_column_are_not_handed_over() -> None:
    sql = "copy users (ssn) from stdin"
    rows = d.message("d", f"{SSN}\n".encode())
    notes = [
        asks(sql, written=["public.users.ssn"]),
        d.server("copy", d.message("G", b"\0\0\1\0\0")),
        Note("message", "", C, "copy-data", rows, count=1),
        Note("message", "", C, "copy-done", d.message("c")),
        d.server("ready", d.complete("COPY 1") + d.READY, "COPY 1"),
    ]
    out = redacted(session(*notes), "column:public.users.ssn")
    assert SSN.encode() not in everything(out)
    (data,) = [f for f in out if f.note.message == "copy-data"]
    assert data.dropped == len(rows) and data.size == len(rows)


# -- detectors --------------------------------------------------------------------------------------------------


def test_what_a_detector_finds_is_hidden_wherever_it_is() -> None:
    process = msgspec.structs.replace(PSQL, argv=("psql", "-c", f"select '{SSN}'"))
    sql = f"select 'of {SSN}, yes'"
    notes = [
        opened(),
        *d.LOGIN,
        asks(sql),
        Note("decision", sql, decision=d.READS, id="f1-1"),
        answer("note", rows=[[f"it is {SSN}."], ["nothing"]]),
        Note("answered", f"denied: {SSN}?", by="eve"),
        Note("incident", f"saw {SSN}"),
        closed(f"because of {SSN}"),
    ]
    out = redacted(frames(notes, flow(process=process)), "detector:ssn")
    assert SSN.encode() not in everything(out)
    assert SSN not in " ".join(out[0].flow.process.argv)  # type: ignore[union-attr]
    (query,) = [f.note for f in out if f.note.message == "query"]
    assert query.text == f"select 'of {'*' * 11}, yes'" and query.raw == d.query(query.text)
    assert any(d.row("it is [redacted].") in f.note.raw and d.row("nothing") in f.note.raw for f in out)


def test_names_that_vendors_choose_are_hidden_as_texts_are() -> None:
    """Keys of Redis, aliases of columns, scripts and names of hosts."""
    became = msgspec.structs.replace(PSQL, parents=(f"/home/{MAIL}/run",), script=f"/srv/{MAIL}.py", sha256="ab" * 32)
    of = flow(process=msgspec.structs.replace(PSQL, exe=f"/opt/{MAIL}", cgroup=f"acme.service/{MAIL}", became=became))
    alias = Named(Column(MAIL, 1, 1), (f"public.users.{MAIL}",))
    decision = msgspec.structs.replace(d.READS, unknown=f"`{MAIL}` is not known")
    notes = [
        Note("opened", "x", identity=MAIL, target=MAIL, protocol="redis"),
        Note("message", "GET *", C, "command", b"", facts=(("key", (f"user:{MAIL}",)),)),
        Note("decision", "GET *", decision=decision, id="f1-1"),
        Note("message", "", S, "reply", b"", columns=(alias,)),
        Note("answered", "", by=MAIL),
        closed(),
    ]
    out = redacted(frames(notes, msgspec.structs.replace(of, names=(MAIL,))), "detector:email")
    assert MAIL.encode() not in everything(out)
    (first, asked, decided, *_) = out
    assert asked.note.facts == (("key", (f"user:{'*' * len(MAIL)}",)),)
    assert decided.note.decision == msgspec.structs.replace(decision, unknown=f"`{'*' * len(MAIL)}` is not known")
    assert first.flow and first.flow.process and first.flow.process.became
    assert first.flow.process.became.sha256 == "ab" * 32  # a digest is none of a person's


def http(head: str, body: str = "", answer: str = "") -> list[Frame]:
    """A session with one request and its answer."""
    raw = f"{head} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    answered = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode()
    text = f"{head}\n\n{body}" if body else head
    notes = [
        Note("opened", "x", identity="acme", target="api", protocol="http"),
        Note("message", text, C, "request", raw, facts=(("effect", ("read",)),)),
        Note("decision", text, decision=d.READS, id="f1-1"),
        Note("message", "", S, "complete", answered),
    ]
    return frames([*notes, closed()])


@pytest.mark.parametrize(
    "written",
    ["ada%40example.com", "%61da%40example%2ecom", "ada%2540example.com", "ada\\u0040example.com", "ad\\u0061%40example.com"],
)
def test_what_stands_there_in_escapes_is_hidden_too(written: str) -> None:
    for found in (http(f"GET /?m={written}"), http("POST /", f'{{"m":"{written}"}}'), http("GET /", answer=f"<a>{written}</a>")):
        out = redacted(found, "detector:email")
        assert written.encode() not in everything(out)
        assert out[1].size == found[1].size and len(out[1].note.text) == len(found[1].note.text)
    assert written.encode() in everything(redacted(http(f"GET /?m={written}"), "detector:ssn"))


WRITTEN = st.sampled_from([quote, quote_plus, lambda text: quote(quote(text)), lambda text: json.dumps(text)[1:-1]])


@given(st.text(max_size=20), st.text(alphabet="xy@ é漢😀%+\"\\", min_size=1, max_size=8), st.text(max_size=20), WRITTEN)
def test_a_find_in_escapes_is_where_it_was_written(before: str, secret: str, after: str, how: Callable[[str], str]) -> None:
    text = how(before) + "<" + how(secret) + ">" + how(after)

    def find(text: str) -> Iterator[tuple[int, int]]:
        at = text.find(f"<{secret}>")
        return iter([(at + 1, at + 1 + len(secret))] if at >= 0 else [])

    place = (len(how(before)) + 1, len(how(before)) + 1 + len(how(secret)))
    assert place in list(escapes.everywhere(text, find))


def test_depth_is_how_many_escapes_are_read_inside_another() -> None:
    written = "x"
    for depth in range(escapes.DEPTH + 2):
        found = list(escapes.everywhere(written, lambda text: [(0, len(text))] if text == "x" else []))
        assert bool(found) == (depth <= escapes.DEPTH)
        written = "".join(f"%{byte:02x}" for byte in written.encode())


def test_parameters_that_a_detector_finds_are_not_handed_over() -> None:
    bind = d.message("B", d.text("", "") + b"\0\0\0\1" + len(SSN).to_bytes(4, "big") + SSN.encode() + b"\0\0")
    notes = [
        Note("message", "select $1", C, "parse", d.message("P", d.text("", "select $1") + b"\0\0")),
        Note("message", f"select '{SSN}'", C, "bind", bind),
        Note("message", "", C, "sync", d.message("S")),
    ]
    out = redacted(session(*notes), "detector:ssn")
    assert SSN.encode() not in everything(out)
    (dropped,) = [f for f in out if f.note.message == "bind"]
    assert (dropped.note.raw, dropped.dropped) == (b"", len(bind))
    assert [f.note.raw for f in out if f.note.message == "sync"] == [d.message("S")]


def test_an_error_that_quotes_it_is_not_handed_over() -> None:
    quoted = d.server("error", d.error("23505", f"Key (ssn)=({SSN}) already exists") + d.READY, "23505")
    assert SSN.encode() not in everything(redacted(session(asks("insert"), quoted), "detector:ssn"))


def test_a_detector_of_the_rules_may_be_named() -> None:
    out = redacted(session(asks("select 'EMP-00017'")), "detector:employee", employee="EMP-[0-9]+")
    assert b"EMP-00017" not in everything(out)


def test_a_session_inside_tls_is_followed() -> None:
    turns = [
        Note("message", "", C, "ssl-request", bytes.fromhex("0000000804d2162f")),
        Note("message", "S", S, "tls", b"S"),
        Note("message", "TLS hello for db", C, "tls"),
        Note("message", "TLS opened: db", S, "tls"),
    ]
    asked = asks("select * from users", column=["public.users.*"])
    found = frames([opened(), *turns, *d.LOGIN, asked, answer("id", "name", "ssn", rows=[["17", "Ada", SSN]]), *d.BYE])
    out = redacted(found, "column:public.users.ssn")
    assert any(d.row("17", "Ada", "[redacted]") in f.note.raw for f in out)


def test_several_at_once() -> None:
    found = session(asks("select 1", column=["public.users.ssn"]), answer("id", "name", "ssn", rows=[["1", CARD, SSN]]))
    out = redacted(found, "column:public.users.ssn", "detector:credit_card")
    assert any(d.row("1", "[redacted]", "[redacted]") in f.note.raw for f in out)


# -- what cannot be followed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["beginning gone", "not kept", "no protocol", "rubbish", "unknown protocol"])
def test_what_cannot_be_followed_gives_texts_only(how: str) -> None:
    sql = f"select ssn from users where ssn = '{SSN}'"
    found = session(asks(sql, compared=["public.users.ssn"]), answer("id", "x", "ssn", rows=[["1", "2", SSN]]))
    match how:
        case "beginning gone":
            found = [msgspec.structs.replace(found[8], flow=flow()), *found[9:]]
        case "not kept":
            found[7] = withheld(found[7])
        case "no protocol":
            found[0] = msgspec.structs.replace(found[0], note=msgspec.structs.replace(found[0].note, protocol=""))
            found[1] = msgspec.structs.replace(found[1], note=msgspec.structs.replace(found[1].note, raw=b"\x99" * 5000))
        case "rubbish":
            found[3] = msgspec.structs.replace(found[3], note=msgspec.structs.replace(found[3].note, raw=b"\x99" * 50))
        case "unknown protocol":
            found[0] = msgspec.structs.replace(found[0], note=msgspec.structs.replace(found[0].note, protocol="gopher"))
    out = redacted(found, "column:public.users.ssn")
    assert SSN.encode() not in everything(out)
    assert [f.size for f in out] == [f.size for f in found]
    assert "select ssn from users" in next(f.note.text for f in out if f.note.message == "query")
    assert b"".join(f.note.raw for f in out[-4:]) == b""


@pytest.mark.parametrize("word", ["", "ssn", "column:", "column", "detector:", "detector:none", "table:t", "column:a.b.c.d"])
def test_a_word_that_means_nothing_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="--redact"):
        made([word], {})


def test_max_words_bounds_what_is_asked() -> None:
    assert redaction.MAX_WORDS == 100
    made(["column:a.b.c"] * 100, {})
    with pytest.raises(ConfigError, match="more than 100"):
        made(["column:a.b.c"] * 101, {})


# -- real sessions ----------------------------------------------------------------------------------------------

RULES = """
rules:
  - {id: nothing, when: {column: [public.users.email]}, do: mask, with: redact}
  - {id: all, do: allow}
"""


@pytest.mark.peer
@needs_tshark
@pytest.mark.parametrize("rules", [RULES, "rules: [{id: all, do: allow}]\n"], ids=["origins known", "not known"])
def test_a_real_session_redacted_is_one_that_wireshark_reads(postgres: Postgres, server: Address, tmp_path: Path, rules: str) -> None:
    with Gate(server, rules) as gate:
        words = f"host=127.0.0.1 port={gate.port} user=acme password=secret dbname=shop sslmode=disable"
        with psycopg.connect(words, autocommit=True) as db:
            whole = db.execute("select id, name, ssn from users order by id").fetchall()
            assert whole
            values = [str(row[2]) for row in whole if row[2]]
            db.execute("select s.ssn as harmless from users s").fetchall()
            db.execute("select name from users where ssn = %s", (values[0],)).fetchall()
            db.execute("select name from users where ssn = %s", (values[0],), prepare=True).fetchall()
            db.execute("select ssn from users", binary=True).fetchall()
            with db.cursor() as cursor, cursor.copy("copy users (id, ssn) to stdout") as copy:
                for _ in copy:
                    pass
            with pytest.raises(psycopg.Error):
                db.execute(f"select ('x' || ssn)::int from users where ssn = '{values[0]}'")
            kept = db.execute("select 'kept' as word").fetchone()
            assert kept == ("kept",)
        notes = [note for _, note in gate.notes]
    of = Flow("f1", T, Address.of("10.0.3.5", 40001), Address.of("10.0.3.2", 5432), PSQL)
    found = frames(notes, of)
    assert all(value.encode() in everything(found) for value in values)
    out = redacted(found, "column:public.users.ssn")
    said = everything(out)
    assert not [value for value in values if value.encode() in said]
    assert b"kept" in said and b"harmless" in said
    if rules is RULES:
        assert str(whole[0][1]).encode() in said, "other columns stay"
    path = export(tmp_path / "f.pcapng", out)
    assert complaints(path) == ""
    kinds = [one for line in fields(path, "pgsql.type", only="pgsql") for one in line[0].split(",")]
    assert kinds.count("Data row") >= 4 * len(whole)
    assert json.loads(b"".join(FORMATS["jsonl"](out)).splitlines()[0])["kind"] == "opened"


# -- texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("select a from b", "select a from b"),
        ("select 'x', 1.5e3, -7", "select ***, *****, -*"),
        ("where a = 'it''s' and b = 2", "where a = ******* and b = *"),
        ('select "A b" from t1', "select ***** from t*"),
        ("select 'open", "select *****"),
        (r"select '\' , 'secret'", "select **************"),
        ("select $$it's$$, 'x'", "select " + "*" * 13),
        ("select 1 -- it's 'x'", "select * -- it" + "*" * 6),
        ("select /* ' */ 'x'", "select /* " + "*" * 8),
        ("insert `a` values (0xFF)", "insert *** values (****)"),
        ("select 1 # '", "select * # *"),
    ],
)
def test_literals_are_covered_and_where_it_depends_more_is(text: str, hidden: str) -> None:
    assert covered(text, literals(text)) == hidden


@given(st.text())
def test_covering_keeps_the_length(text: str) -> None:
    assert len(covered(text, literals(text))) == len(text)


@given(st.text(alphabet="ab1 '\"\\$-/*#`é漢", max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_bytes_are_covered_as_the_text_is(text: str, before: bytes, after: bytes) -> None:
    raw = before + text.encode() + after
    out = covered_raw(raw, text, literals(text))
    assert out is not None and len(out) == len(raw)


def test_a_text_that_is_not_in_the_bytes_cannot_be_covered() -> None:
    assert covered_raw("select 'é'".encode("latin-1"), "select 'é'", [(7, 10)]) is None
    assert covered_raw(b"x", "\udcff", [(0, 1)]) is None
    assert covered_raw(b"x", "y", []) == b"x"
