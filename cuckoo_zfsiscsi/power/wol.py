"""Wake-on-LAN by wakeonlan: on only, and nobody answers, so the first sign of boot is the proof.

URL: wol (the magic packet to 255.255.255.255), wol://10.99.0.255 (a network's broadcast, also
behind a router that allows it), wol://10.99.0.255?interface=10.99.0.1 (from this own address), or
wol://INTERFACE?raw=yes (an Ethernet frame, no IP). ?mac= for another card than the one that boots.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError, PowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.options import check_options

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

NEEDS_ADDRESS = False
FROM_HOST = {"mac": "mac"}
ETHERTYPE = 0x0842
BROADCAST = bytes.fromhex("ffffffffffff")
PORT = 9
"""Discard: no one need answer."""
OPTIONS = {
    "mac": (r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "a MAC address with colons"),
    "interface": (r"[0-9.]+", "an IPv4 address of this server"),
    "raw": (r"yes|no", "yes or no"),
}


def connect(url: PowerUrl, secret: SecretStr | None) -> Wol:  # noqa: ARG001 - has none
    """Return the driver of one network card; nothing is sent yet.

    Raises:
        ConfigError: the URL can't be used.
    """
    check_options(url, OPTIONS)
    if "mac" not in url.options:
        raise ConfigError(f"power = {url}: no MAC address", fix="add ?mac=00:11:22:33:44:55")
    if url.options.get("raw") == "yes" and not url.host:
        raise ConfigError(f"power = {url}: raw needs an interface", fix="wol://INTERFACE?raw=yes")
    return Wol(url)


class Wol:
    """One network card."""

    # A packet may be lost, and sending it again does no harm.
    can = Can(switch=frozenset({PowerState.ON}), tell=frozenset(), again=2.0, requests=1_000_000)

    def __init__(self, url: PowerUrl) -> None:
        self._mac = url.options["mac"]
        self._host = url.host or "255.255.255.255"
        self._port = url.port or PORT
        self._from = url.options.get("interface")
        self._raw = url.options.get("raw") == "yes"
        self.peer = f"wol://{self._host}/{self._mac}"

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Send the packet, as Driver has it."""
        import wakeonlan

        what = f"{self.peer}: power {state.value}"
        deadline.check(what)
        if state is PowerState.OFF:
            raise PowerError(f"{what}: Wake-on-LAN only wakes", fix="set power_off")
        try:
            if self._raw:
                self._send_frame(wakeonlan.create_magic_packet(self._mac))
            else:
                wakeonlan.wake(self._mac, host=self._host, port=self._port, interface=self._from)
        except OSError as error:
            raise PowerError(
                f"{what}: the packet can't be sent: {error.strerror or error}",
                fix="is the address a broadcast of this server's networks? ip -br addr",
            ) from None

    def query(self, *, deadline: Deadline) -> PowerState:
        """Fail: nobody answers. As Driver has it."""
        deadline.check(self.peer)
        raise PowerError(f"{self.peer}: a network card tells no state")

    def _send_frame(self, packet: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind((self._host, 0))
            source = out.getsockname()[4]
            out.send(BROADCAST + source + ETHERTYPE.to_bytes(2, "big") + packet)
