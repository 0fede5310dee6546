"""Telling others of a checkpoint, so that the host's root cannot rewrite what was before it unseen.

What is told is one line, `vendorgate checkpoint NUMBER HASH TIME key NAME`; `verify --anchors FILE` takes any text
with such lines in it. Nobody who is told can hold anything up: what fails is tried again, by then with a newer
one, which vouches for all before it.
"""

import asyncio
import contextlib
import syslog
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.record.checkpoint import Written
from appliance.record.ship import ShipError, Sink

WITHIN_S = 60.0  # for the command to end


async def by_command(command: Sequence[str], written: Written, within_s: float = WITHIN_S) -> None:
    """Run a program with the line on its standard input.

    Raises:
        ShipError: it cannot be run, takes too long, or ends with a status that is not 0.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ShipError(f"{command[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(within_s):
            _, said = await process.communicate(written.line.encode() + b"\n")
    except TimeoutError:
        raise ShipError(f"{command[0]} did not end within {within_s:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise ShipError(f"{command[0]} ended with {process.returncode}: {said[-200:].decode(errors='replace').strip()}")


def by_syslog(written: Written) -> None:
    """Write the line to syslog, as facility authpriv, which hosts send on."""
    syslog.openlog("vendorgate", 0, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, written.line)


async def by_object(sink: Sink, written: Written) -> None:
    """Put the line, and the signed entry itself, as objects named by the number.

    Raises:
        ShipError: they are not there.
    """
    name = f"anchors/{written.entry.number:012d}"
    with TemporaryDirectory() as directory:
        for suffix, data in ((".txt", written.line.encode() + b"\n"), (".checkpoint", written.data)):
            path = Path(directory) / f"anchor{suffix}"
            path.write_bytes(data)
            await sink.put(name + suffix, path)
