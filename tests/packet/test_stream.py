"""One connection, by the name of what is done to it. What a receiver makes of most of it is in test_kernel.py."""

import pytest

from appliance.packet import half
from appliance.packet.events import Choices, Finished, Odd, Over, Run, Taken
from appliance.packet.stream import MAX_SYN_ACKS
from tests.packet.scenes import SCENES
from tests.packet.talk import C, S, Talk

INLINE = Choices(inline=True)
BOTH = pytest.mark.parametrize("choices", [Choices(), INLINE], ids=["capture", "inline"])


@BOTH
def test_a_connection(choices: Choices) -> None:
    talk = Talk(choices).open()
    assert talk(C, "PA", 0, b"GET").place == "next"
    assert talk(S, "PA", 0, b"200", ack=3).place == "next"
    assert talk(C, "FA", 3, ack=3) == Taken(1, C, "next", (Finished(1, C, 3, 0.006),), 3, 3, fin=True)
    talk(S, "FA", 3, ack=4)
    assert not talk.of(Over)
    talk(C, "A", 4, ack=4)
    assert [event.why for event in talk.of(Over)] == ["finished"]
    assert talk.of(Run) == [Run(1, C, 0, b"GET", 0.004, (4,)), Run(1, S, 0, b"200", 0.005, (5,))]
    assert talk.tracker.memory == 0


@BOTH
def test_sequence_numbers_wrap(choices: Choices) -> None:
    talk = Talk(choices, isn=2**32 - 4, theirs=2**32 - 1).open()
    talk(C, "A", 0, b"abcdefgh")
    talk(C, "A", 12, b"mnop")
    talk(C, "A", 8, b"ijkl")
    talk(S, "A", 0, b"xyz", ack=16)
    assert (talk.said(C), talk.said(S)) == (b"abcdefghijklmnop", b"xyz")


def test_more_bytes_than_there_are_sequence_numbers() -> None:
    """Offsets do not wrap."""
    talk = Talk(INLINE).open(scale=14)
    piece, at = bytes(60_000), 0
    for number in range(3):
        talk(C, "A", at, piece)
        at += len(piece)
        talk(S, "A", 0, ack=at)
        end = talk.tracker._table.flows[1].connection._ends[C]
        end.next = end.top = end.acked = end._base = at = at + 2**31 + 5  # as if so much had been said
        end.edge = at + 2**20
        end.origin = (end.origin + 0) % 2**32
        assert end.offset((talk.isns[C] + 1 + at) % 2**32) == at, number
    assert at > 2**32


@BOTH
def test_retransmission_of_the_same(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "A", 0, b"abcdef")
    for seq, data in ((0, b"abc"), (3, b"def"), (0, b"abcdef"), (5, b"f")):
        taken = talk(C, "A", seq, data)
        assert (taken.place, taken.begin, taken.end) == ("old", seq, seq + len(data))
    assert talk(C, "A", 3, b"defghi").place == "next"
    assert talk.said(C) == b"abcdefghi" and not talk.of(Odd)


def test_retransmission_of_other_bytes_refuses_the_flow() -> None:
    talk = Talk(INLINE).open()
    talk(C, "A", 0, b"abcdef")
    taken = talk(C, "A", 3, b"XXX")
    assert taken.place == "refused" and [event.kind for event in talk.of(Odd)] == ["conflict"]
    assert [event.why for event in talk.of(Over)] == ["refused"]
    assert talk(C, "A", 6, b"ghi").place == talk(S, "A", 0, b"x", ack=6).place == "refused"
    assert talk.tracker.memory == 0


def test_retransmission_of_other_bytes_is_told_of_a_capture() -> None:
    talk = Talk().open()
    talk(C, "A", 0, b"abcdef")
    assert talk(C, "A", 3, b"XXXghi").place == "next"
    assert talk.said(C) == b"abcdefghi" and [event.kind for event in talk.of(Odd)] == ["conflict"]


def test_what_is_acknowledged_is_not_compared() -> None:
    """No receiver reads it again."""
    talk = Talk(INLINE).open()
    talk(C, "A", 0, b"abcdef")
    talk(S, "A", 0, ack=6)
    assert talk(C, "A", 5, b"\0").place == "old"  # a keep-alive with a byte, as some systems say it


@BOTH
def test_early_overlap_of_other_bytes(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "A", 3, b"def")
    refused = talk(C, "A", 4, b"XXX").place == "refused"
    assert refused == choices.inline and talk.of(Odd)


def test_early_overlap_with_an_end_of_other_place() -> None:
    for first, second in (((3, b"", "FA"), (1, b"bcde", "A")), ((3, b"defg", "A"), (1, b"bcd", "FA"))):
        talk = Talk(INLINE).open()
        for seq, data, flags in (first, second):
            taken = talk(C, flags, seq, data)
        assert taken.place == "refused"


def test_data_of_a_syn_inline_is_judged_at_once() -> None:
    talk = Talk(INLINE)
    assert talk(C, "S", 0, b"GET").place == "next"
    talk(S, "SA", ack=0)  # the server left it out
    assert talk(C, "A", 0, b"GET /").place == "next"
    assert talk.said(C) == b"GET /"
    assert talk(C, "A", 0, b"PUT /").place == "refused"


def test_data_of_a_syn_that_the_server_took() -> None:
    talk = Talk()
    assert talk(C, "S", 0, b"GET").place == "early"
    talk(S, "SA", ack=3)
    talk(C, "A", 3, b" /")
    assert talk.said(C) == b"GET /"


def test_data_of_a_syn_that_the_server_left_out() -> None:
    """A server without TCP Fast Open reads what is sent again, whatever that is."""
    talk = Talk()
    talk(C, "S", 0, b"XXX")
    talk(S, "SA", ack=0)
    talk(C, "A", 0, b"GET /")
    talk(S, "A", 0, ack=5)
    assert talk.said(C) == b"GET /" and not talk.of(Odd)


@BOTH
def test_split_handshake(choices: Choices) -> None:
    """The server says SYN of its own, and the client answers that (Beardsley and Qian, 2010)."""
    talk = Talk(choices)
    talk(C, "S")
    assert talk(S, "S").place == "bare"
    assert talk(C, "SA").place == "bare"
    assert talk(S, "A").place == "bare"
    talk(C, "A", 0, b"GET")
    talk(S, "A", 0, b"200", ack=3)
    assert (talk.said(C), talk.said(S)) == (b"GET", b"200")


def test_a_syn_ack_that_the_client_does_not_confirm() -> None:
    """The first with another number is not the server's."""
    talk = Talk()
    talk(C, "S")
    for number in range(MAX_SYN_ACKS + 2):
        talk(S, "SA", isn=77_000 + number)
    talk(S, "SA")
    talk(C, "A")
    talk(S, "A", 0, b"200")
    assert talk.said(S) == b"200"


def test_a_syn_ack_with_another_number_inline() -> None:
    talk = Talk(INLINE)
    talk(C, "S")
    talk(S, "SA")
    assert talk(S, "SA", isn=9).why == "SYN in an open connection"


@BOTH
def test_a_syn_ack_of_another_syn(choices: Choices) -> None:
    talk = Talk(choices)
    talk(C, "S")
    assert talk(S, "SA", ack=99).why == "SYN-ACK of another SYN"


def test_without_a_handshake() -> None:
    for choices in (Choices(), INLINE):
        assert Talk(choices)(C, "A", 0, b"GET").why == "no handshake"
    talk = Talk(INLINE)
    talk(C, "S")
    assert talk(C, "A", 0, b"GET").why == "no handshake"


@pytest.mark.parametrize("inline", [False, True])
def test_midstream_by_choice(inline: bool) -> None:
    talk = Talk(Choices(inline=inline, midstream=True))
    talk(C, "A", 700, b"GET", ack=300)
    talk(S, "A", 300, b"200", ack=703)
    assert talk.events[0].midstream
    assert [(run.side, run.offset, run.data) for run in talk.of(Run)] == [(C, 0, b"GET"), (S, 0, b"200")]


def test_midstream_the_server_is_the_lower_port() -> None:
    talk = Talk(Choices(midstream=True))
    talk(S, "A", 0, b"220 hello", ack=0)
    assert talk.events[0].client.port == 40_000 and talk.said(S) == b"220 hello"


@BOTH
def test_reset(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "A", 0, b"GET")
    assert talk(S, "RA", 0, ack=3).place == "bare"
    talk.end()
    assert [(event.why, event.side) for event in talk.of(Over)] == [("reset", S)]


def test_after_a_reset_nothing_is_let_by() -> None:
    talk = Talk(INLINE).open()
    talk(S, "R", 0)
    assert talk(C, "A", 0, b"GET").why == talk(S, "A", 0, b"200").why == "after a reset"
    assert talk(S, "R", 0).place == "bare"


def test_what_was_reset_is_not_kept() -> None:
    talk = Talk(INLINE).open()
    talk(C, "A", 0, b"x" * 1000)
    assert talk.tracker.kept(1) == talk.tracker.memory >= 1000
    talk(C, "R", 1000)
    assert talk.tracker.kept(1) == talk.tracker.memory == 0


def test_a_reset_that_is_not_heeded() -> None:
    """In a capture, the receiver may have left it out: what goes on was not reset."""
    talk = Talk().open()
    talk(C, "A", 0, b"GET")
    talk(C, "R", 1)  # between what is acknowledged and what was sent: in the window, but not where the server is
    talk(S, "A", 0, b"200", ack=3)
    talk(C, "A", 3, b" /")
    talk.end()
    assert (talk.said(C), talk.said(S)) == (b"GET /", b"200")
    assert [event.why for event in talk.of(Over)] == ["end"]


@BOTH
def test_a_reset_that_does_not_fit(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "A", 0, b"GET")
    talk(S, "A", 0, ack=3)
    for seq in (2, 9, 10**6, -1):
        assert talk(C, "R", seq).why == "a reset that does not fit"
    talk(C, "A", 3, b" /")
    assert talk.said(C) == b"GET /"


@BOTH
def test_a_reset_answers_a_syn(choices: Choices) -> None:
    talk = Talk(choices)
    talk(C, "S")
    assert talk(S, "RA", -5001, ack=9).why == "a reset that does not fit"
    assert talk(S, "R", -5001).why == "a reset that does not fit"
    assert talk(S, "RA", -5001, ack=0).place == "bare"
    talk.end()
    assert [event.why for event in talk.of(Over)] == ["reset"]


def test_bytes_of_a_reset_are_not_read() -> None:
    talk = Talk().open()
    talk(S, "R", 0, b"why we reset")
    talk.end()
    assert talk.said(S) == b""


@BOTH
def test_half_closed(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "FA", 0, b"bye")
    talk(S, "A", 0, b"still here", ack=4)
    talk(S, "FA", 10, ack=4)
    talk(C, "A", 4, ack=11)
    assert talk.said(S) == b"still here" and [event.why for event in talk.of(Over)] == ["finished"]


@BOTH
def test_beyond_the_end(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "FA", 0, b"bye")
    assert talk(C, "A", 4, b"more").why == "beyond the end"
    assert talk(C, "FA", 0, b"bye").place == "old"


def test_urgent_data_refuses_a_flow_inline() -> None:
    talk = Talk(INLINE).open()
    assert talk(C, "UA", 0, b"abc", urgent=2).place == "refused"
    assert [event.kind for event in talk.of(Odd)] == ["urgent"]


def test_urgent_data_as_told() -> None:
    for policy, said in (("oob", b"ac"), ("inline", b"abc")):
        for inline in (False, True)[: 1 + (policy == "inline")]:
            talk = Talk(Choices(inline=inline, urgent=policy)).open()
            talk(C, "UA", 0, b"abc", urgent=2)
            assert talk.said(C) == said and talk.of(Odd)
    talk = Talk(Choices(urgent="drop")).open()
    assert talk(C, "UA", 0, b"abc", urgent=2).place == "refused"


@pytest.mark.parametrize("flags", ["UA", "UFA"])
def test_an_urgent_pointer_alone_refuses_a_flow_inline(flags: str) -> None:
    talk = Talk(INLINE).open()
    assert talk(C, flags, 0, urgent=2).place == "refused"
    assert [event.kind for event in talk.of(Odd)] == ["urgent"]


@BOTH
@pytest.mark.parametrize("option", [bytes((19, 18)) + bytes(16), bytes((29, 4, 1, 1))], ids=["MD5", "AO"])
def test_a_connection_that_is_signed(choices: Choices, option: bytes) -> None:
    talk = Talk(choices)
    talk(C, "S", options=option)
    talk(S, "SA", options=option)
    talk(C, "A", options=option)
    talk(C, "A", 0, b"XXX")
    talk(S, "A", ack=3)  # what is not signed is not heeded
    assert talk.said(C) == b""
    talk(C, "A", 0, b"abc", options=option)
    talk(S, "A", ack=3, options=option)
    assert talk.said(C) == b"abc" and talk.tracker.memory == 0


@BOTH
def test_zero_window(choices: Choices) -> None:
    """A probe of one byte: the receiver leaves it out, until it opens its window."""
    talk = Talk(choices).open(window=3)
    talk(C, "A", 0, b"abc")
    talk(S, "A", 0, ack=3, window=0)
    probe = talk(C, "A", 3, b"d")
    assert (probe.place, probe.why) == (("invalid", "outside of the window") if choices.inline else ("early", ""))
    assert talk.said(C) == b"abc"
    talk(S, "A", 0, ack=3, window=100)
    assert talk(C, "A", 3, b"def").place == "next"
    assert talk.said(C) == b"abcdef"


def test_zero_window_and_the_probe_is_taken() -> None:
    talk = Talk().open(window=3)
    talk(C, "A", 0, b"abc")
    talk(C, "A", 3, b"d")
    talk(S, "A", 0, ack=4, window=0)
    assert talk.said(C) == b"abcd"


@BOTH
def test_windows_are_scaled(choices: Choices) -> None:
    talk = Talk(choices).open(window=100, scale=4)
    talk(S, "A", 0, ack=0, window=10)  # 160 bytes; those of a SYN are not scaled
    assert talk(C, "A", 0, bytes(160)).place == "next"
    talk(S, "A", 0, ack=160, window=1)
    assert talk(C, "A", 160, bytes(17)).place in ("invalid", "early")
    assert talk(C, "A", 160, bytes(16)).place == "next"


@BOTH
def test_an_old_timestamp(choices: Choices) -> None:
    talk = Talk(choices).open(stamp=100)
    talk(C, "A", 0, b"XXX", stamp=50)
    assert talk.said(C) == b""
    assert talk(C, "A", 0, b"abc", stamp=99).place == "next"  # a tick is none
    assert talk.said(C) == b"abc"


def test_timestamps_wrap() -> None:
    talk = Talk(INLINE).open(stamp=2**32 - 2)
    assert talk(C, "A", 0, b"abc", stamp=3).place == "next"
    assert talk(C, "A", 3, b"def", stamp=2**32 - 2).why == "an old timestamp"


def test_the_timestamp_that_counts_is_of_what_stands_where_the_receiver_is() -> None:
    talk = Talk(INLINE).open(stamp=100)
    talk(C, "A", 0, b"abc", stamp=101)
    talk(C, "A", 3, b"def", stamp=200)  # it may come before that one: nothing is acknowledged
    assert talk(C, "A", 6, b"ghi", stamp=102).place == "next"
    talk(S, "A", 0, ack=9, stamp=100)
    talk(C, "A", 0, b"abc", stamp=300)  # sent again in vain
    talk(C, "A", 12, b"mno", stamp=300)
    assert talk(C, "A", 9, b"jkl", stamp=150).place == "next"
    assert talk(C, "A", 15, b"pqr", stamp=148).why == "an old timestamp"


def test_doubtful_bytes_are_given_when_they_are_acknowledged() -> None:
    talk = Talk().open(stamp=100)
    talk(C, "A", 0, b"abc", stamp=50)
    talk(S, "A", 0, ack=2, stamp=100)
    assert talk.said(C) == b"ab"
    talk(C, "A", 2, b"YZ", stamp=101)  # only what was acknowledged is settled
    assert talk.said(C) == b"abYZ"


@BOTH
def test_acknowledgements_that_no_receiver_heeds(choices: Choices) -> None:
    talk = Talk(choices).open(window=5000)
    assert talk(C, "PA", 0, b"XXX", ack=1).place == ("invalid" if choices.inline else "early")
    talk(C, "PA", 0, b"XXX", ack=-1)
    talk(C, "P", 0, b"XXX")
    assert talk.said(C) == b""
    talk(C, "PA", 0, b"abc")
    assert talk.said(C) == b"abc"


def test_what_was_not_captured_is_a_gap() -> None:
    talk = Talk().open()
    talk(C, "A", 0, b"abc")
    talk(C, "A", 6, b"ghi")
    talk(S, "A", 0, ack=9)
    for _ in range(half.PATIENCE):
        assert not talk.gaps()
        talk(S, "A", 0, ack=9)
    assert talk.gaps() == [(C, 3, 3)]
    assert [(run.offset, run.data) for run in talk.of(Run)] == [(0, b"abc"), (6, b"ghi")]


def test_an_acknowledgement_that_lies_makes_no_gap() -> None:
    """It may be within the window, and yet of nothing: what is sent then is read."""
    talk = Talk().open()
    for _ in range(half.PATIENCE + 3):
        talk(C, "A", 0, ack=500)
    talk(S, "A", 0, b"200")
    assert talk.said(S) == b"200" and not talk.gaps()


def test_a_gap_at_the_end() -> None:
    talk = Talk().open()
    talk(C, "A", 3, b"def")
    talk(S, "A", 0, ack=6)
    talk.end()
    assert talk.gaps() == [(C, 0, 3)] and talk.said(C) == b"def"


def test_what_was_never_acknowledged_is_not_given_at_the_end() -> None:
    talk = Talk().open()
    talk(C, "A", 3, b"def")
    talk(S, "A", 0, ack=0)
    assert talk.end().said(C) == b""


def test_a_capture_of_one_side() -> None:
    """Nobody acknowledges: what comes in order is given at once, the rest at the end."""
    talk = Talk()
    talk(C, "S")
    talk(C, "A", 0, b"abc")
    assert talk.said(C) == b"abc"
    talk(C, "A", 6, b"ghi")
    talk.end()
    assert talk.said(C) == b"abcghi" and talk.gaps() == [(C, 3, 3)]


def test_inline_there_are_no_gaps() -> None:
    talk = Talk(INLINE).open()
    talk(C, "A", 3, b"def")
    for _ in range(9):
        assert talk(S, "A", 0, ack=0).place == "bare"
    assert talk(S, "A", 0, b"x", ack=7).why == "acknowledges what was not sent"
    assert talk.end().gaps() == [] and talk.said(C) == b""


@pytest.mark.parametrize("name", SCENES)
@BOTH
def test_scenes(choices: Choices, name: str) -> None:
    """What the kernel reads of these is in test_kernel.py; here nobody needs root."""
    says, read, stamped = SCENES[name]
    talk = Talk(choices).open(stamp=1001 if stamped else None)
    for say in says:
        stamp = (say.stamp or 1002) if stamped else None
        taken = talk(C, say.flags, say.seq + ("S" in say.flags), say.data, say.ack, 0xFFFF, say.urgent, stamp, bytes.fromhex(say.options))
    assert talk.said(C) == read or (choices.inline and taken.place == "refused" and read.startswith(talk.said(C)))


@BOTH
def test_a_syn_that_ends(choices: Choices) -> None:
    assert Talk(choices)(C, "SF").why == "SYN with FIN"


def test_an_old_acknowledgement_tells_nothing() -> None:
    talk = Talk(INLINE).open(window=3, stamp=100)
    talk(C, "A", 0, b"abc", stamp=101)
    talk(S, "A", 0, ack=3, window=0, stamp=101)
    talk(S, "A", 0, ack=3, window=500, stamp=50)
    assert talk(C, "A", 3, b"d", stamp=102).why == "outside of the window"


def test_of_doubtful_bytes_the_last_are_given() -> None:
    """The receiver left out the others, or nothing would have been sent again."""
    talk = Talk().open(window=5)
    talk(C, "A", 3, b"XXX")
    talk(C, "A", 3, b"def")
    talk(C, "A", 0, b"abc")
    talk(S, "A", 0, ack=6, window=9)
    assert talk.said(C) == b"abcdef" and talk.tracker.memory == 0


def test_of_doubtful_bytes_that_overlap_the_last_that_has_the_next_is_given() -> None:
    talk = Talk().open(window=1)
    for begin, data in ((2, b"cdef"), (1, b"BCDE"), (0, b"a"), (1, b"bC"), (4, b"E"), (9, b"z")):
        talk(C, "A", begin, data)
    for ack in range(1, 7):
        talk(S, "A", 0, ack=ack, window=1)
    assert talk.said(C) == b"abCdE"
    assert talk.tracker.memory == half.PIECE_COST + 1  # what is acknowledged settles a segment


def test_doubtful_bytes_cost_no_more_than_they_are() -> None:
    talk = Talk().open(window=1)
    for place in range(7_000):
        talk(C, "A", place + 1, b"x")
    talk(C, "A", 0, b"x")
    for place in range(7_000):
        talk(S, "A", 0, ack=place + 2, window=1)
    assert talk.said(C) == b"x" * 7_001


def test_doubtful_bytes_are_let_go_when_others_came_in_their_place() -> None:
    talk = Talk().open(stamp=100)
    talk(C, "A", 0, b"XXX", stamp=50)
    assert talk.tracker.memory > 0
    talk(C, "A", 0, b"abcdef", stamp=101)
    talk(S, "A", 0, ack=6, stamp=101)
    assert talk.said(C) == b"abcdef" and talk.tracker.memory == 0
