"""Segments by the name of what is done, and what a program that reads from the kernel gets.

After Ptacek and Newsham, "Insertion, Evasion, and Denial of Service" (1998), and what the regression tests of Suricata
are named for: overlaps, data that a SYN brings, urgent pointers, resets with data, keep-alives.
"""

from tests.packet.receiver import Say

# name: (what is said, what is read, whether the connection has timestamps)
SCENES: dict[str, tuple[list[Say], bytes, bool]] = {
    "in order": ([Say(0, b"abc"), Say(3, b"def")], b"abcdef", False),
    "sent again": ([Say(0, b"abc"), Say(0, b"abc"), Say(3, b"def"), Say(1, b"bcdef")], b"abcdef", False),
    "sent again, otherwise": ([Say(0, b"abc"), Say(0, b"XYZdef")], b"abcdef", False),
    "early, then its front": ([Say(3, b"def"), Say(0, b"abc")], b"abcdef", False),
    "early, twice, the first is kept": ([Say(3, b"def"), Say(3, b"XYZ"), Say(0, b"abc")], b"abcdef", False),
    "early, then longer: that is kept": ([Say(3, b"def"), Say(3, b"XYZW"), Say(0, b"abc")], b"abcXYZW", False),
    "early, covered from before": ([Say(4, b"ef"), Say(3, b"XYZW"), Say(0, b"abc")], b"abcXYZW", False),
    "early, in part: who begins first": ([Say(4, b"efgh"), Say(2, b"XYZ"), Say(0, b"ab")], b"abXYZfgh", False),
    "in order over early ones": ([Say(3, b"def"), Say(0, b"abcXY")], b"abcXYf", False),
    "a hole that is never filled": ([Say(0, b"ab"), Say(3, b"def")], b"ab", False),
    "no flag of acknowledgement": ([Say(0, b"XXX", flags="P"), Say(0, b"abc")], b"abc", False),
    "no flag at all": ([Say(0, b"XXX", flags=""), Say(0, b"abc")], b"abc", False),
    "acknowledges what was not sent": ([Say(0, b"XXX", ack=9), Say(0, b"abc")], b"abc", False),
    "SYN with bytes in an open connection": ([Say(0, b"XXX", flags="SA"), Say(0, b"abc")], b"abc", False),
    "an old timestamp": ([Say(0, b"XXX", stamp=900), Say(0, b"abc", stamp=1002)], b"abc", True),
    "an old timestamp behind an older SYN": ([Say(-1, flags="SA", stamp=1000), Say(0, b"XXX", stamp=999), Say(0, b"abc", stamp=1002)], b"abc", True),
    "far outside of the window": ([Say(2**24 * 2, b"XXX"), Say(0, b"abc")], b"abc", False),
    "before the beginning": ([Say(-3, b"XXXabc"), Say(3, b"def")], b"abcdef", False),
    "FIN, and more behind it": ([Say(0, b"abc", flags="FA"), Say(3, b"XXX"), Say(4, b"YYY")], b"abc", False),
    "FIN early": ([Say(3, b"def", flags="FA"), Say(0, b"abc")], b"abcdef", False),
    "FIN early, bytes over it": ([Say(3, b"", flags="FA"), Say(0, b"abcdef")], b"abcdef", False),
    "RST that does not fit": ([Say(-9, flags="R"), Say(0, b"abc")], b"abc", False),
    "keep-alive": ([Say(0, b"abc"), Say(2, b""), Say(2, b"X"), Say(3, b"def")], b"abcdef", False),
    "urgent byte is out of band": ([Say(0, b"abXcd", flags="UA", urgent=3)], b"abcd", False),
    "urgent pointer alone": ([Say(0, flags="UA", urgent=3), Say(0, b"abXcd")], b"abcd", False),
    "urgent pointer alone, of 0": ([Say(0, flags="UA"), Say(0, b"Xabcd")], b"abcd", False),
    "urgent pointer alone, further on": ([Say(2, flags="UA", urgent=1), Say(0, b"abXcd")], b"abcd", False),
    "urgent pointers, the second behind": ([Say(0, flags="UA", urgent=2), Say(0, flags="UA", urgent=4), Say(0, b"abcXd")], b"abcd", False),
    "urgent pointers, the second before": ([Say(0, flags="UA", urgent=4), Say(0, flags="UA", urgent=2), Say(0, b"abcXd")], b"abcd", False),
    "urgent pointer to what was read": ([Say(0, b"abc"), Say(1, flags="UA", urgent=1), Say(3, b"def")], b"abcdef", False),
    "signed, in a connection that is not": ([Say(0, b"XXX", options="1312" + "ab" * 16 + "0101"), Say(0, b"abc")], b"abc", False),
    "urgent byte of a later segment": ([Say(0, b"ab", flags="UA", urgent=3), Say(2, b"Xcd")], b"abcd", False),
}
