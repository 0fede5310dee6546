"""IP packets -> datagrams and streams of TCP. Pure: packets come from a queue or from a capture, time is an argument.

    decode.py     bytes of an IP packet -> Packet, and back with another payload
    link.py       a frame of a capture -> the IP packet in it
    fragments.py  fragments -> whole packets
    half.py       one direction of a connection: its bytes in order
    stream.py     one connection: which segments count
    tracker.py    packets of many flows -> what happens in each
    events.py     the values that come out

Use: `Tracker(Choices(...))`, then `tracker.take(decode(data), now, number)` for every packet, `tracker.expire(now)`
now and then, `tracker.end(now)` at the end of a capture.
"""
