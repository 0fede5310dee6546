#!/usr/bin/python3
"""What a vendor's busy agent does, until it is told to stop: new connections all the time, of what it may and may not.

    load TARGET CLOSED_PORT

Says, as JSON, how many were served, refused (connect(2) said so) or broken off, and how many it should not have had.
"""

import http.client
import json
import signal
import socket
import sys
import threading
from collections import Counter

TARGET, CLOSED = sys.argv[1], int(sys.argv[2])
PATIENCE_S = 30.0
MAY, MAY_NOT = "/stock.txt", "/internal.txt"
MEANING = {(MAY, 200): "served", (MAY_NOT, 403): "denied", (MAY_NOT, 200): "leaked"}
found: Counter[str] = Counter()
errors: Counter[str] = Counter()
stop = threading.Event()


def once(path: str) -> None:
    """Ask for a path over a connection of its own."""
    try:
        sock = socket.create_connection((TARGET, 80), PATIENCE_S)
    except OSError as error:
        found["refused"] += 1
        errors[f"connect: {error!r}"] += 1
        return
    try:
        asked = http.client.HTTPConnection(TARGET, timeout=PATIENCE_S)
        asked.sock = sock
        asked.request("GET", path)
        answer = asked.getresponse()
        answer.read()
        found[MEANING.get((path, answer.status), "broken")] += 1
    except (OSError, http.client.HTTPException) as error:
        found["broken"] += 1
        errors[f"{path}: {error!r}"] += 1
    finally:
        sock.close()


def ask() -> None:
    number = 0
    while not stop.wait(0.005):
        number += 1
        once(MAY if number % 4 else MAY_NOT)


def knock() -> None:
    """Try what no rule allows. A relay may take the connection, to refuse it; the server has something to say."""
    while not stop.wait(0.02):
        try:
            with socket.create_connection((TARGET, CLOSED), PATIENCE_S) as sock:
                sock.sendall(b"secret")
                found["leaked" if sock.recv(16) else "kept in"] += 1
        except OSError:
            found["kept in"] += 1


signal.signal(signal.SIGTERM, lambda *_: stop.set())
threads = [threading.Thread(target=work) for work in (ask, ask, ask, knock)]
for thread in threads:
    thread.start()
print("loading", flush=True)
while not stop.wait(0.2):
    pass
for thread in threads:
    thread.join()
print(json.dumps({**found, "errors": errors}), flush=True)
