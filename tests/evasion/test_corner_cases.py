"""Corner cases of PROTOCOLS.md 2.1, each on a real PostgreSQL through the real relay, sessions and rules.

Where each row of the table has its test. `P` is test_postgres.py, `C` ../peer/test_clients.py, `A` this file,
`X` test_corner_extended.py, `Y` test_corner_copy.py, `L` test_corner_leaks.py, `N` test_corner_names.py,
`W` test_corner_works.py, `V` test_provenance.py; names without a letter are of this file.

    row of the table                     tests
    SSLRequest                           TestTls: prefer and require, server N and S; bytes glued behind it
    Direct TLS                           TestTls::test_a_hello_that_is_none_is_refused, ::test_libpq_direct_negotiation_with_a_server_that_knows_of_none
    GSSENCRequest                        TestGss
    SCRAM, channel binding               TestLogin::test_channel_binding_*
    MD5 upstream auth                    TestLogin::test_every_method (scram md5 password trust), ::test_wrong_password, ::test_reject
    CancelRequest                        C::test_a_long_query_is_cancelled, C::TestHeld::test_the_client_takes_it_back; TestCancel
    Extended protocol and pipelining     X::TestPipeline, X::TestLibpqPipeline, C::test_psycopg_pipeline, P::TestDenialKeepsTheConnection
    Bind-only changes                    X::TestBindOnly; C::test_rules_reload_reaches_a_live_session, C::TestHeld::test_prepared_it_is_asked_*
    portal suspended                     X::TestSuspended; V "row by row"
    SQL PREPARE/EXECUTE                  X::TestPreparedBothWays; V "prepared in SQL"
    COPY in/out/program                  Y; P::test_copy_is_masked
    Binary result format                 V "extended binary", "binary cursor"; W::TestTypes
    FunctionCall                         P::test_function_call_is_refused; X::test_function_call_keeps_the_state
    Replication                          P::test_replication_is_refused; TestReplication
    LISTEN/NOTIFY, notices, parameters   C::test_notifications_come_at_any_time; L::TestSideways
    ErrorResponse as a data leak         L::TestErrors; P::TestErrorsSayNothing
    search_path, settings, encodings     P::TestSettings; N::TestShadows, N::TestSettings
    SET ROLE, SET SESSION AUTHORIZATION  N::TestRoles
    Protocol negotiation 3.2             TestNegotiation

    evasion catalogue                    P WRITES SHOWN ORACLES (CTE, EXPLAIN ANALYZE, DO, functions, SELECT INTO, CTAS, COPY, files,
                                         comments, strings, MERGE, TABLE, VALUES, several statements, cursors, PREPARE, views, rows, oracles)
      homoglyphs and quoting of names    N::TestSpelling
      COMMIT; DROP                       P "commit and drop"; X::TestSeveralStatements
      per-char, re-encoded               V CUT
      cursors FETCH MOVE WITH HOLD       X::TestCursors
      laundering                         L::TestLaundering
      oracles                            P ORACLES; L::TestOracles
      functions that run SQL, statistics L::TestBackDoors
      SQL inside HTTP bodies             not of this protocol
    measured: provenance, 65 shapes      V; DISTINCT, GROUP BY, UNION and domains: L::TestCompared
    measured: what BEGIN READ ONLY lets  P WRITES; N::TestReadOnlyGaps

    relay that was run                   P::TestOversize, TestFrames::test_a_frame_over_the_limit_*; P::TestSettings; P::test_function_call_is_refused;
                                         P::test_copy_is_masked, Y; V; W::TestTypes; P::TestDenialKeepsTheConnection, X::TestPipeline;
                                         200,000 masked rows: ../bench/bench_rows.py; HTTP rows: not of this protocol
"""

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from appliance.lab.servers import Postgres, postgres_bin
from tests.evasion import doors, talk
from tests.evasion.talk import Socket, Talk, address
from tests.gate import Gate
from tests.ports import free_port

pytestmark = pytest.mark.peer

HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(194)
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    home = tmp_path_factory.mktemp("doors")
    for folder in (home, home.parent, home.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    settings = (("wal_level", "logical"), ("log_connections", "on"), ("log_statement", "all"))
    with Postgres(home, free_port(), listen="127.0.0.1", settings=settings) as server:
        doors.prepare(server)
        yield server


@pytest.fixture(scope="module")
def gate(house: Postgres) -> Iterator[Gate]:
    with Gate(address(house.port)) as gate:
        yield gate


def enter(gate: Gate, user: str = "free", **more: object) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(host="127.0.0.1", port=gate.port, user=user, dbname="postgres", autocommit=True, **more)  # type: ignore[arg-type]


def incidents(gate: Gate) -> list[str]:
    return [note.text for note in gate.of("incident")]


class TestTls:
    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
    def test_a_server_without_it_serves_who_can_do_without(self, gate: Gate, mode: str) -> None:
        with enter(gate, sslmode=mode) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    @pytest.mark.parametrize("mode", ["require", "verify-full"])
    def test_a_server_without_it_is_said_to_be_one(self, gate: Gate, mode: str) -> None:
        with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
            enter(gate, sslmode=mode, sslrootcert="/dev/null" if mode == "verify-full" else None)

    def test_a_server_that_says_S_must_prove_who_it_is(self, house: Postgres) -> None:
        with doors.tls(house), Gate(address(house.port)) as gate:
            with pytest.raises(psycopg.OperationalError, match="handshake failure"):
                enter(gate, sslmode="require")
            assert incidents(gate)
            assert all("TLS with the server failed: its certificate is not to be trusted" in text for text in incidents(gate))

    def test_in_clear_that_server_still_serves(self, house: Postgres) -> None:
        with doors.tls(house), Gate(address(house.port)) as gate, enter(gate, sslmode="disable") as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    def test_a_hello_that_is_none_is_refused(self, gate: Gate) -> None:
        before = len(incidents(gate))
        with Socket.open(gate.port) as line:
            line.send(b"\x16\x03\x01\x00\x05\x02" + bytes(4))
            assert talk.tags(line.rest()) in {"", "E"}
        assert len(incidents(gate)) == before + 1

    def test_libpq_direct_negotiation_with_a_server_that_knows_of_none(self, gate: Gate) -> None:
        before = len(incidents(gate))
        with pytest.raises(psycopg.OperationalError):
            enter(gate, sslmode="require", sslnegotiation="direct")
        assert len(incidents(gate)) == before + 1

    @pytest.mark.parametrize("first", [SSL_REQUEST, GSS_REQUEST], ids=["ssl", "gss"])
    def test_bytes_glued_behind_the_request(self, gate: Gate, house: Postgres, first: bytes) -> None:
        """Who does not wait for the answer could be someone else on the path: nothing of it is taken for the client's."""
        before, name = len(incidents(gate)), f"glued{first[7]}"
        with Socket.open(gate.port) as line:
            line.send(first + talk.startup(user="free", database="postgres", application_name=name) + talk.query("select 1"))
            line.rest()
            assert b"\0\0\0\x05I" not in line.seen
        assert len(incidents(gate)) == before + 1
        assert name not in house.log.read_text()


class TestGss:
    def test_it_is_answered_N_and_the_login_goes_on(self, gate: Gate) -> None:
        with Socket.open(gate.port) as line:
            line.send(GSS_REQUEST)
            assert line.byte() == b"N"
            line.send(SSL_REQUEST)
            assert line.byte() == b"N"
            assert talk.tags(line.ask(talk.startup(user="free", database="postgres"))).endswith("KZ")
            assert talk.rows(line.ask(talk.query("select 1"))) == [[b"1"]]

    @pytest.mark.parametrize("mode", ["prefer", "disable"])
    def test_psql(self, gate: Gate, mode: str) -> None:
        words = [str(postgres_bin() / "psql"), "-XAtc", "select 1", f"host=127.0.0.1 port={gate.port} user=free dbname=postgres gssencmode={mode}"]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ})
        assert done.stdout == "1\n", done.stderr


class TestLogin:
    @pytest.mark.parametrize("user", ["scram", "hashed", "plain", "free"])
    def test_every_method(self, gate: Gate, user: str) -> None:
        with enter(gate, user, password="secret") as connection:
            assert connection.execute("select current_user, session_user").fetchone() == (user, user)

    @pytest.mark.parametrize("user", ["scram", "hashed", "plain"])
    def test_wrong_password(self, gate: Gate, house: Postgres, user: str) -> None:
        told = []
        for port in (gate.port, house.port):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
                psycopg.connect(host="127.0.0.1", port=port, user=user, dbname="postgres", password="wrong")
            told.append(str(caught.value).replace(str(port), ""))
        assert told[0] == told[1]

    def test_reject(self, gate: Gate) -> None:
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
            enter(gate, "nobody")

    def test_no_password_is_in_the_record(self, gate: Gate) -> None:
        enter(gate, "plain", password="secret").close()
        assert gate.of("message")
        assert not any(b"secret" in note.raw or "secret" in note.text for note in gate.of("message"))

    @pytest.mark.parametrize("mode", ["disable", "prefer"])
    def test_channel_binding_that_can_be_done_without(self, gate: Gate, mode: str) -> None:
        with enter(gate, "scram", password="secret", channel_binding=mode) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    def test_channel_binding_required_fails_as_it_does_direct(self, gate: Gate, house: Postgres) -> None:
        told = []
        for port in (gate.port, house.port):
            with pytest.raises(psycopg.OperationalError, match="channel binding") as caught:
                psycopg.connect(host="127.0.0.1", port=port, user="scram", dbname="postgres", password="secret", channel_binding="require")
            told.append(str(caught.value).replace(str(port), ""))
        assert told[0] == told[1]

    def test_the_user_that_counts_is_the_one_the_rules_see(self, house: Postgres) -> None:
        """A server takes the last of two users; so must we."""
        rules = "rules:\n  - {id: free-only, when: {user: [free]}, do: allow}\n"
        with Gate(address(house.port), rules) as gate:
            for users, good in ((("streamer", "free"), True), (("free", "streamer"), False)):
                pairs = b"".join(b"user\0" + user.encode() + b"\0" for user in users) + b"database\0postgres\0\0"
                with Socket.open(gate.port) as line:
                    line.send(struct.pack("!II", len(pairs) + 8, 3 << 16) + pairs)
                    assert (talk.tags(line.until("ZE"))[-1] == "Z") is good

    def test_requests_sent_before_the_server_is_ready(self, gate: Gate) -> None:
        with Socket.open(gate.port) as line:
            line.send(talk.startup(user="free", database="postgres") + talk.query("create table too_early ()"))
            line.rest()
        with enter(gate) as connection:
            assert connection.execute("select to_regclass('too_early')").fetchone() == (None,)


class TestNegotiation:
    @pytest.mark.parametrize("word", ["3.0", "3.2", "latest"])
    def test_libpq(self, gate: Gate, word: str) -> None:
        with enter(gate, max_protocol_version=word) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    @pytest.mark.parametrize(("version", "options"), [((3, 2), {}), ((3, 9999), {}), ((3, 0), {"_pq_.later": "yes"}), ((3, 2), {"_pq_.a": "1", "_pq_.b": "2"})])
    def test_the_servers_answer_goes_down_as_it_came(self, gate: Gate, house: Postgres, version: tuple[int, int], options: dict[str, str]) -> None:
        told = []
        for port in (gate.port, house.port):
            with Socket.open(port) as line:
                got = line.ask(talk.startup(version, user="free", database="postgres", **options))
                told.append([(tag, body) for tag, body in got if tag in "vSRZ"])
                assert talk.rows(line.ask(talk.query("select 1"))) == [[b"1"]]
        assert told[0] == told[1]
        assert told[0][0][0] == "v" or told[0][1][0] == "v"

    @pytest.mark.parametrize("version", [(2, 0), (4, 0), (1, 0)])
    def test_another_major_version_is_refused(self, gate: Gate, version: tuple[int, int]) -> None:
        before = len(incidents(gate))
        with Socket.open(gate.port) as line:
            line.send(talk.startup(version, user="free", database="postgres"))
            assert "Z" not in talk.tags(line.rest())
        assert len(incidents(gate)) == before + 1

    @pytest.mark.parametrize("size", [4, 32, 256])
    def test_cancel_keys_of_any_length(self, size: int) -> None:
        """PostgreSQL 18 has keys of 32 bytes: a held statement is withdrawn by one, and a cancel goes up with it."""
        key = struct.pack("!I", 77) + bytes(range(256))[:size]
        login = talk.frame("R", bytes(4)) + talk.frame("S", b"client_encoding\0UTF8\0") + talk.frame("K", key) + talk.frame("Z", b"I")
        with doors.scripted(login) as (server, heard), Gate(server, "rules:\n  - {id: ask, when: {effect: [notify]}, do: approve, approvers: {group: dba}}\n  - {id: rest, do: allow}\n") as gate:
            with Socket.open(gate.port) as line:
                line.ask(talk.startup((3, 2), user="free", database="postgres"))
                line.send(talk.query("notify x"))
                assert gate.wait_question().cancel_key == key
                cancel = struct.pack("!II", 8 + len(key), 80877102) + key
                with Socket.open(gate.port) as other:
                    other.send(cancel)
                    until = time.monotonic() + 10
                    while cancel not in heard and time.monotonic() < until:
                        time.sleep(0.01)
                assert cancel in heard
            assert any(note.text.startswith("cancelled") for note in gate.of("answered"))


class TestCancel:
    HOLD = "rules:\n  - {id: ask, when: {effect: schema}, do: approve, approvers: {group: dba}}\n  - {id: rest, do: allow}\n"

    def test_a_wrong_key_cancels_nothing(self, gate: Gate) -> None:
        with enter(gate) as connection:
            done: list[object] = []
            worker = threading.Thread(target=lambda: done.append(connection.execute("select pg_sleep(0.6)::text").fetchone()))
            worker.start()
            time.sleep(0.2)
            for key in (bytes(8), struct.pack("!II", connection.info.backend_pid, 1)):
                with Socket.open(gate.port) as line:
                    line.send(struct.pack("!II", 16, 80877102) + key)
                    assert line.rest() == []
            worker.join(10)
            assert done == [("",)]

    def test_a_wrong_key_withdraws_nothing(self, house: Postgres) -> None:
        with Gate(address(house.port), self.HOLD) as gate, Socket.open(gate.port) as line:
            key = dict(line.ask(talk.startup(user="free", database="postgres")))["K"]
            line.send(talk.query("create temp table held ()"))
            question = gate.wait_question()
            with Socket.open(gate.port) as other:
                other.send(struct.pack("!II", 16, 80877102) + key[:4] + bytes(4))
                assert other.rest() == []
            assert not gate.of("answered")
            gate.say(question, approved=True)
            assert talk.tags(line.until()) == "NCZ"

    def test_rules_may_refuse_it(self, house: Postgres) -> None:
        with Gate(address(house.port), "rules:\n  - {id: reads, when: {effect: read}, do: allow}\n") as gate, Socket.open(gate.port) as line:
            line.send(struct.pack("!II", 16, 80877102) + bytes(8))
            line.rest()
            assert [verdict for verdict, _, _ in gate.verdicts()] == ["block"]

    @pytest.mark.parametrize("size", [12, 15, 400])
    def test_a_cancel_of_the_wrong_size(self, gate: Gate, size: int) -> None:
        before = len(incidents(gate))
        with Socket.open(gate.port) as line:
            line.send(struct.pack("!II", size, 80877102) + bytes(size - 8))
            line.rest()
        assert len(incidents(gate)) == before + 1


class TestReplication:
    @pytest.mark.parametrize("word", ["true", "on", "1", "database", "yes", "t"])
    def test_a_rule_for_reads_does_not_let_it_in(self, house: Postgres, word: str) -> None:
        rules = "rules:\n  - {id: reads, when: {effect: [read, session, copy]}, do: allow}\n"
        with Gate(address(house.port), rules) as gate, Socket.open(gate.port) as line:
            line.send(talk.startup(user="streamer", database="postgres", replication=word))
            assert talk.codes(line.rest()) == ["42501"]

    @pytest.mark.parametrize("words", [{"replication": "true"}, {"replication": "database"}, {"options": "-c replication=true"}])
    def test_where_anything_goes_a_stream_still_cannot_carry_what_is_masked(self, house: Postgres, words: dict[str, str]) -> None:
        house.admin("create table if not exists hidden (ssn text)")
        rules = "rules:\n  - {id: hide, when: {column: [public.hidden.ssn]}, do: mask, with: redact}\n  - {id: all, do: allow}\n"
        at = house.admin("select pg_current_wal_lsn()")
        house.admin(f"insert into hidden values ('{talk.SECRETS[0]}')")
        with Gate(address(house.port), rules) as gate, Socket.open(gate.port) as line:
            line.send(talk.startup(user="streamer", database="postgres", **words))
            if talk.tags(line.until("ZE"))[-1] == "Z":
                line.send(talk.query(f"START_REPLICATION PHYSICAL {at}") + talk.frame("X"))
                line.rest()
            assert not talk.shown(line.seen)


class TestFrames:
    """Lengths and tags that no client sends: refused at the header, and nothing behind them is read."""

    @pytest.mark.parametrize("length", [0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000], ids=hex)
    @pytest.mark.parametrize("tag", ["Q", "P", "B", "E", "D", "C", "S", "H", "F", "d", "c", "f", "X", "p"])
    def test_lengths(self, gate: Gate, tag: str, length: int) -> None:
        before = len(incidents(gate))
        with Talk(gate.port, "free", "postgres") as line:
            line.send(tag.encode() + struct.pack("!I", length) + talk.query("create table smuggled ()"))
            assert talk.codes(line.rest()) == ["08P01"]
        assert len(incidents(gate)) == before + 1

    @pytest.mark.parametrize("tag", ["Q", "P", "B", "E", "D", "C", "F", "f"])
    def test_a_body_of_nothing(self, gate: Gate, tag: str) -> None:
        with Talk(gate.port, "free", "postgres") as line:
            line.send(talk.frame(tag) + talk.query("create table smuggled ()"))
            assert talk.codes(line.rest()) == ["08P01"]

    @pytest.mark.parametrize("tag", ["\x00", "A", "K", "Z", "R", "T", "W", "\x16", "G", "N"])
    def test_tags_no_client_sends(self, gate: Gate, tag: str) -> None:
        with Talk(gate.port, "free", "postgres") as line:
            line.send(talk.frame(tag, b"x\0") + talk.query("create table smuggled ()"))
            assert talk.codes(line.rest()) == ["08P01"]

    def test_a_frame_over_the_limit_and_a_query_behind_it(self, gate: Gate) -> None:
        with Talk(gate.port, "free", "postgres") as line:
            line.send(b"Q" + struct.pack("!I", (64 << 20) + 6))
            assert talk.codes(line.rest()) == ["08P01"]

    def test_nothing_was_smuggled(self, house: Postgres) -> None:
        assert house.admin("select to_regclass('smuggled')") == ""

    @pytest.mark.parametrize("first", [b"\0\0\0\x00", b"\0\0\0\x07", b"\0\0\x27\x11\0\x03\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 8])
    def test_first_bytes_that_are_no_startup(self, gate: Gate, first: bytes) -> None:
        before = len(incidents(gate))
        with Socket.open(gate.port) as line:
            line.send(first)
            line.rest()
        assert len(incidents(gate)) == before + 1

    def test_a_client_that_sends_half_a_header_and_leaves(self, gate: Gate) -> None:
        with Talk(gate.port, "free", "postgres") as line:
            line.send(b"Q\0\0")
            line.sock.shutdown(socket.SHUT_WR)
            line.rest()
        with enter(gate) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
