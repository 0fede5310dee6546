"""One end of a flow: a TCP connection and the state of its two directions."""

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from appliance.model import Side
from appliance.relay.closing import reset_on_close, unread
from appliance.relay.gate import Gate
from appliance.relay.layer import Layer
from appliance.relay.limits import MAX_READ, Limits
from appliance.relay.splice import Splice


class Owner(Protocol):
    """Who is told what happens at an end."""

    def arrived(self, side: Side, data: bytes) -> None:
        """`side` sent `data`."""

    def ended(self, side: Side) -> None:
        """`side` will send no more."""

    def lost(self, side: Side) -> None:
        """The connection of `side` is no more."""

    def regulate(self) -> None:
        """How much waits to be written has changed."""

    def broke(self, side: Side, error: Exception) -> None:
        """`side` broke off its TLS."""


class End:
    """One connection, an asyncio.Protocol. What is written before it is attached waits; it never closes by itself.

    That base is not named: what is compiled has none of others.
    """

    def protocol(self) -> asyncio.Protocol:
        """Return it as what the loop calls."""
        return cast(asyncio.Protocol, self)

    def __init__(
        self,
        side: Side,
        owner: Owner,
        limits: Limits,
        sock: socket.socket | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.sock = sock
        self._full = False  # over the high water mark, until under the low one
        self.finished = False  # its peer will send no more
        self.shut = False  # we send no more
        self.gone = False  # there is no connection any more
        self.taken = 0  # bytes of its peer
        self.heavy = 0  # bytes of memory that its TLS takes beyond the usual
        self._side, self._owner, self._limits = side, owner, limits
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._wanted = self._reading = True
        self._others_turn = False
        self._splice: Splice | None = None  # takes what its peer says
        self._feeder: Splice | None = None  # sends to its peer
        self._layer: Layer | None = None
        self._said_end = self._told_end = False
        self._ends_later = False  # its peer has ended, and what came before waits in its TLS
        self._gate = gate
        self._held_bytes = 0
        self._held: deque[tuple[Layer | None, bytes]] = deque()  # waits for the disk
        self._after: list[Callable[[], None]] = []  # what is to be done when nothing is held any more

    @property
    def full(self) -> bool:
        """True while so much waits to be written that no more should be read for it."""
        fed = self._feeder is not None and self._feeder.waiting > 0
        return self._full or fed or self._held_bytes > self._limits.high_water

    @property
    def open(self) -> bool:
        """True while there is a connection that the loop knows of."""
        return self._transport is not None and not self.gone

    @property
    def buffered(self) -> int:
        """Bytes that wait to be written."""
        if self.gone:
            return 0
        waiting = self._transport.get_write_buffer_size() if self._transport else sum(map(len, self._unsent))
        if self._feeder is not None:
            waiting += self._feeder.waiting
        return waiting + self._held_bytes + (self._layer.waiting if self._layer else 0)

    @property
    def kept(self) -> int:
        """Bytes of its peer that wait, since its TLS is being opened."""
        return self._layer.kept if self._layer else 0

    @property
    def unread(self) -> int:
        """Bytes that the peer's host has not taken: those that wait to be written, and those in the kernel.

        A slow reader shows here. The loop writes to a socket only when a third of its kernel buffer is free.
        """
        if self.gone or self.sock is None:
            return 0
        try:
            (queued,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            queued = 0
        return self.buffered + int(queued)

    @property
    def received(self) -> int:
        """Bytes that its peer's host got rid of: those we read, and those that wait in the kernel."""
        return self.taken + (unread(self.sock) if self.sock and not self.gone else 0)

    # -- what its owner does ---------------------------------------------------------------------------------

    def read(self, wanted: bool) -> None:
        """Read, or not, from now on."""
        self._wanted = wanted
        self._apply()

    def write(self, data: bytes) -> None:
        """Write `data` after what was written before; dropped when nobody can take it any more."""
        if self.gone or self.shut or not data:
            return
        if self._feeder is not None:
            self._feeder.stop()
        if self._gate and (self._held or self._gate.shut):
            self._held.append((self._layer, data))
            self._held_bytes += len(data)
            self._gate.wait(self._let_out, self.reset)
        else:
            self._put(self._layer, data)

    def _put(self, layer: Layer | None, data: bytes) -> None:
        if layer:
            layer.seal(data)
            self.flush()
        elif self._transport:
            self._transport.write(data)
        else:
            self._unsent.append(data)

    def _let_out(self) -> None:
        """Write what was held longest; the disk has its record."""
        if self.gone or not self._held:
            return
        layer, data = self._held.popleft()
        self._held_bytes -= len(data)
        self._put(layer, data)
        if not self._held:
            self.flush()
            after, self._after = self._after, []
            for then in after:
                then()
        self._owner.regulate()

    def leave_to(self, splice: Splice | None) -> None:
        """Have a splice take what comes, or nobody but us again."""
        self._splice = splice
        self._apply()

    def fed_by(self, splice: Splice | None) -> None:
        """Have a splice write, as soon as nothing of ours waits to be written; or it is over."""
        self._feeder = splice
        if self._transport and not self.gone:
            high, low = (self._limits.high_water, self._limits.low_water) if splice is None else (0, 0)
            self._transport.set_write_buffer_limits(high=high, low=low)

    def lose(self) -> None:
        """The connection broke, as a splice found."""
        if self._transport and not self.gone:
            self._transport.abort()

    def _leave_splices(self, flush: bool) -> None:
        """Be what the loop reads and writes by, alone; what is in a pipe is written or dropped."""
        if self._splice is not None:
            self._splice.stop()
        if self._feeder is not None:
            self._feeder.stop() if flush else self._feeder.drop()

    def secure(self, layer: Layer | None) -> None:
        """Have TLS from here on, or no more."""
        self._layer = layer
        if layer is not None:
            layer.stepped = self._stepped

    def release(self) -> None:
        """Tell what came inside TLS while it was opened, and go on telling."""
        layer = self._layer
        if layer is None:
            return
        plain, self.heavy = layer.release(), layer.heavy
        if self.heavy:
            self._owner.regulate()
        if plain:
            self._owner.arrived(self._side, plain)
        if layer.ended:
            self._over()

    def flush(self) -> None:
        """Write what TLS has for the peer, behind what was to be written before it began."""
        data = self._layer.take() if self._layer and not self._held else b""
        if data and self._transport and not (self.gone or self._said_end):
            self._transport.write(data)  # what TLS wants to say after our end goes nowhere

    def finish(self) -> None:
        """Send no more after what was written."""
        if self._feeder is not None:
            self._feeder.stop()
        if self._held:
            self._after.append(self._finish)
        else:
            self._finish()
        self.shut = True

    def _finish(self) -> None:
        if self._transport and not (self.gone or self._said_end):
            if self._layer:
                self._layer.close()
                self.flush()
            self._said_end = True
            # A peer that has reset is not connected any more; the loop tells of that loss a moment later.
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def close(self) -> None:
        """Close after what was written."""
        self._leave_splices(flush=True)
        if self._held:
            self._after.append(self.close)
        elif self._transport:
            self._transport.close()
        elif self.sock:
            self._end()

    def reset(self) -> None:
        """Close at once, by a reset; what is not written yet is dropped."""
        if self.gone:
            return
        self._leave_splices(flush=False)
        self._held.clear()
        self._held_bytes = 0
        self._after.clear()
        if self.sock:
            reset_on_close(self.sock)
        if self._transport:
            self._transport.abort()
        elif self.sock:
            self._end()

    # -- what the loop calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Reading cannot be paused here: uvloop 0.23 starts it after this call whatever was asked.
        self._transport = cast(asyncio.Transport, transport)
        if self.gone:  # closed while it was being attached
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=self._limits.high_water, low=self._limits.low_water)
        if self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()
        if self.shut and not self._held:
            self._finish()

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        if len(data) > MAX_READ // 2 and not self._others_turn:
            # After a full buffer libuv reads on, up to 32 times, before other flows have their turn.
            self._others_turn = True
            asyncio.get_running_loop().call_soon(self._my_turn)
            self._apply()
        if self._layer is None:
            self._owner.arrived(self._side, data)
        else:
            self._inside(self._layer, data)

    def _inside(self, layer: Layer, data: bytes) -> None:
        """Take what came of TLS."""
        waited = layer.waiting
        try:
            plain = layer.feed(data)
        except ssl.SSLError as error:
            self._owner.broke(self._side, error)
            return
        self.flush()
        if layer.waiting < waited or not layer.released:
            self._owner.regulate()
        if plain:
            self._owner.arrived(self._side, plain)
        if layer.ended:
            self._over()

    def _stepped(self, error: Exception | None) -> None:
        """Its handshake has gone on."""
        layer = self._layer
        if error is not None:
            self._owner.broke(self._side, error)
        elif layer is not None:
            self.flush()
            self._owner.regulate()
            if layer.ended:
                self._over()
        if self._ends_later:
            self._end_comes()

    def eof_received(self) -> bool:
        self._reading = False
        self._ends_later = self._layer is not None and self._layer.waits
        if not self._ends_later:
            self._end_comes()
        return True  # the other direction lives on

    def _end_comes(self) -> None:
        self._ends_later = False
        if self._layer:
            self._layer.tear()
        self._over()

    def _over(self) -> None:
        self.finished = True
        if self._layer and not self._layer.released:
            self._layer.ended = True  # told by `release`, after what came before it
        elif not self._told_end:
            self._told_end = True
            self._owner.ended(self._side)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sock:
            self.taken += unread(self.sock, last=True)  # the loop closes it after this call
        self._leave_splices(flush=False)
        self.gone = True
        self._owner.lost(self._side)

    def pause_writing(self) -> None:
        self._full = True
        self._owner.regulate()

    def resume_writing(self) -> None:
        self._full = False
        self._owner.regulate()

    def _end(self) -> None:
        """Close a connection that the loop does not know of."""
        assert self.sock
        self.taken += unread(self.sock, last=True)
        self.sock.close()
        self.gone = True

    def _my_turn(self) -> None:
        self._others_turn = False
        self._apply()

    def _apply(self) -> None:
        transport = self._transport
        if transport is None or self.gone or self.finished or self._ends_later or transport.is_closing():
            return
        reading = self._wanted and not self._others_turn
        if self._splice is not None:
            self._splice.read(reading)
            reading = False
        if reading and not self._reading:
            transport.resume_reading()
        elif self._reading and not reading:
            transport.pause_reading()
        self._reading = reading
