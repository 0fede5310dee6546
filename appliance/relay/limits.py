"""Every limit of the relay, by name. Tests pass smaller ones."""

import msgspec

MAX_READ = 256 * 1024  # bytes given to a session at once; what asyncio reads at most (uvloop: 256,000)


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How much one worker takes on, and how long it waits."""

    # at a time: two descriptors each, half of what a worker has (launch.FILES); one vendor alone may have half of them,
    # and so 10,000 with the two workers of a small host
    flows: int = 16384
    share: float = 0.5  # of `flows`, and of `memory`, that one vendor may take when it is alone (room.py)
    memory: int = 512 * 1024 * 1024  # bytes that wait in all flows; four unfinished messages of 64 MiB for one vendor
    accepts: int = 64  # connections taken in one turn of the loop, before live flows get theirs
    connect_s: float = 30.0  # for upstream to answer; the client saw its own connect succeed and waits
    greeting_s: float = 60.0  # for the first complete message; authentication_timeout of PostgreSQL
    linger_s: float = 5.0  # after a close, without progress of what is still to be written or read
    linger_max_s: float = 60.0  # after a close, with progress
    high_water: int = 512 * 1024  # bytes waiting to be written to one side that stop reading from the other
    low_water: int = 128 * 1024  # bytes waiting at which reading goes on
    answers: int = 4 * 1024 * 1024  # bytes waiting for one side that stop reading from that side too
    held: int = 1024 * 1024  # bytes that complete messages take, waiting in a session, that stop reading its client
    tick_s: float = 0.001  # at least between two wakes of a session that does not move its deadline
    # bytes of one flow that are not weighed; what `flows` of them have is an eighth of `memory`
    unweighed: int = 4 * 1024
    gathered: int = 1024 * 1024  # bytes of all flows that wait for the end of a turn; four reads of MAX_READ
    crowded_s: float = 0.05  # between two looks at whether a vendor over its share of `memory` may read on
    steps: int = 1  # of TLS handshakes taken in one turn of the loop; each is as much work as dozens of requests
    shaking: int = 64  # of them that wait for one vendor before operators are told; what is accepted in one turn
    quiet_s: float = 60.0  # until they are told of that vendor again
    out_of_files_s: float = 0.2  # pause of accepting when the process has no descriptor left
    splice_after: int = 1024 * 1024  # bytes of one direction that nobody looks into, before it is worth a splice
    splices: int = 256  # directions moved by splice at a time; two descriptors each
    pipes: int = 16  # of 1 MiB, so four workers have what the kernel gives one user: fs.pipe-user-pages-soft, 64 MiB
