"""Requests for DHCP and TFTP as they come over the wire, whichever server answers them.

Servers log such requests each in its own way, or not at all. The kernel filters, so that the disks'
traffic costs nothing here.
"""

from __future__ import annotations

import socket

from cuckoo_zfsiscsi.packets import ETH_IP, attach

DHCP, TFTP = 67, 69
LONGEST = 600
"""Bytes of a packet that are looked at."""

# linux/filter.h: UDP over IPv4, no later fragment, to one of the two ports. From the IP header on.
FILTER = (
    (0x30, 0, 0, 9),  # the protocol
    (0x15, 0, 8, socket.IPPROTO_UDP),
    (0x28, 0, 0, 6),  # the fragment's offset
    (0x45, 6, 0, 0x1FFF),
    (0xB1, 0, 0, 0),  # the header's length
    (0x48, 0, 0, 2),  # the port
    (0x15, 2, 0, DHCP),
    (0x15, 1, 0, TFTP),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, LONGEST),
    (0x06, 0, 0, 0),
)


class Wire:
    """A socket that hears them.

    Args:
        interface: towards the hosts.
        timeout: seconds that receive() waits.

    Raises:
        OSError: not root, or there is no such interface.
    """

    def __init__(self, interface: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # deaf until bound
        try:
            attach(self._socket, FILTER)
            self._socket.bind((interface, ETH_IP))
            self._socket.settimeout(timeout)
        except OSError:
            self._socket.close()
            raise

    def receive(self) -> tuple[bytes, str]:
        """Return a packet from its IP header on, and the MAC address that sent it; none is ours.

        Raises:
            OSError: none came (TimeoutError), or the card is down for a moment.
        """
        packet, address = self._socket.recvfrom(LONGEST)
        return packet, address[4].hex(":")

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def datagram(packet: bytes) -> tuple[int, bytes]:
    """Return port and payload of a packet from its IP header on; port 0 if it is cut off."""
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < header + 8:
        return 0, b""
    return int.from_bytes(packet[header + 2 : header + 4], "big"), packet[header + 8 :]


def tftp_file(payload: bytes) -> str | None:
    """Return the file that a TFTP read request asks for (RFC 1350, 5); None if it is none."""
    if payload[:2] != b"\0\1" or len(payload) < 4:
        return None
    return payload[2:].partition(b"\0")[0].decode("utf-8", "replace")


def dhcp_card(payload: bytes) -> str | None:
    """Return the card that a DHCP request is for: `chaddr` (RFC 2131, 2); None if it is none."""
    if payload[:1] != b"\1" or len(payload) < 34:
        return None
    return payload[28:34].hex(":")
