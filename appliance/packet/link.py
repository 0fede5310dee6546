"""A frame of a capture -> the IP packet in it.

Source: the link-layer types of tcpdump.org, "Link-Layer Header Types"; IEEE 802.1Q and 802.1ad (VLAN tags);
RFC 3032 (MPLS is not handled). Not handled: radio, PPPoE, tunnels.
"""

import struct

NULL, ETHERNET, RAW, LOOP, SLL, SLL2, IPV4, IPV6 = 0, 1, 101, 108, 113, 276, 228, 229
_RAW_BSD = (12, 14)  # LINKTYPE_RAW as some systems wrote it: DLT_RAW
MAX_TAGS = 4  # VLAN tags of a frame; 802.1ad has two


def network(linktype: int, frame: bytes) -> bytes | None:
    """Return the IP packet of a frame; None if it carries none (ARP, say) or is cut short.

    Raises:
        ValueError: the link type is not known.
    """
    if linktype in (RAW, IPV4, IPV6, *_RAW_BSD):
        return frame or None
    if linktype in (NULL, LOOP):
        return frame[4:] or None  # the address family, in the byte order of the host that captured: IP tells itself
    if linktype == ETHERNET:
        return _tagged(frame, 12)
    if linktype == SLL:
        return _tagged(frame, 14)
    if linktype == SLL2:
        return frame[20:] or None if frame[:2] in (b"\x08\x00", b"\x86\xdd") else None
    raise ValueError(f"link type {linktype} is not known")


def _tagged(frame: bytes, at: int) -> bytes | None:
    """Return what follows the type at `at`, behind VLAN tags."""
    for _ in range(MAX_TAGS + 1):
        if len(frame) < at + 3:
            return None
        (kind,) = struct.unpack_from(">H", frame, at)
        if kind in (0x0800, 0x86DD):
            return frame[at + 2 :]
        if kind not in (0x8100, 0x88A8, 0x9100):
            return None
        at += 4
    return None
