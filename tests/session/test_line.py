"""The client's messages that wait: what they weigh, and that each is read anew once."""

import time

from appliance.model import Message, Received, Send, Side, Value
from appliance.session.line import MESSAGE, VALUE, Line
from tests.session import pg
from tests.session.test_session import DELETE, idle

C, S = Side.CLIENT, Side.SERVER


def test_limit_message_and_value_are_weighed_beside_the_bytes() -> None:
    line = Line()
    line.add(Message(C, "command", b"12345", values=(Value(b"a"), Value(b"b"))))
    assert line.size == 5 + MESSAGE + 2 * VALUE
    line.shift()
    assert line.size == 0


def test_a_held_client_weighs_what_its_messages_take_here() -> None:
    """80 MB of a client whose least messages, 1 MiB of them, waited for a reviewer."""
    with idle() as p:
        p >> Received(C, pg.query(DELETE) + pg.SYNC * 1000)
        p.take()
        assert p.session.held > 1000 * MESSAGE


def test_what_waits_is_read_anew_when_it_is_its_turn() -> None:
    """Each of many that change how the next are read had all read anew: 64 KiB of SET took 10 s, 256 KiB minutes."""
    began = time.process_time()
    with idle() as p:
        p >> Received(C, pg.query("set a.b to 1") * 4000)
        for _ in range(4000):
            assert any(isinstance(effect, Send) and effect.to is S for effect in p.take())
            p >> Received(S, pg.complete("SET") + pg.ready())
        p.take()
        assert p.session.held == 0
    assert time.process_time() - began < 8


def test_a_message_that_waited_is_read_in_the_encoding_of_its_turn() -> None:
    with idle() as p:
        late = pg.message("Q", b"select '\xe9'\0")
        p >> Received(C, pg.query("set client_encoding to latin1") + pg.query("select 1") + late)
        p.take()
        p >> Received(S, pg.message("S", pg.text("client_encoding") + pg.text("LATIN1")) + pg.complete("SET") + pg.ready())
        assert "select '\xe9'" in [getattr(effect, "text", "") for effect in p.take()]
