"""IP packets -> datagrams and streams of TCP. Pure: packets come from a queue or from a capture, time is an argument.

    link.py       a frame of a capture -> the IP packet in it
    decode.py     bytes of an IP packet -> Packet
    build.py      a packet with another payload -> bytes; checksums
    fragments.py  fragments -> whole packets
    half.py       one direction of a connection: its bytes in order
    stream.py     one connection: which segments its receiver takes
    table.py      the flows there are
    tracker.py    packets of many flows -> what happens in each
    events.py     the values that come out, and the choices that go in
    inline.py     a connection judged on its way: which packets may go on, with which bytes
    own.py        packets of our own

Use: `Tracker(Choices(...))`, then `tracker.take(decode(data), now, number)` for every packet, `tracker.expire(now)`
now and then, `tracker.end(now)` at the end of a capture.
"""
