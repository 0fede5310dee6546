"""Ports of loopback for servers the tests start."""

import itertools
import random
import socket

LOW, HIGH = 10_000, 32_000  # below those that clients are given, so none has it before the server does
STEP = 10  # a server may take the ports behind its own too
_numbers = itertools.count(random.SystemRandom().randrange(HIGH - LOW), STEP)  # a run beside this one begins elsewhere


def free_port() -> int:
    """Return a TCP port that nothing listens on at the moment, and that was not returned before."""
    while True:
        port = LOW + next(_numbers) % (HIGH - LOW)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
