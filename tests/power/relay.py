"""A wire between ipmitool and a BMC that loses, changes or delays datagrams on command."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OPEN_SESSION_RESPONSE = 0x11
NO_RESOURCES = 0x01


class Relay:
    """UDP on 127.0.0.1, from its own port to the BMC's and back, one client socket per client."""

    def __init__(self, bmc_port: int) -> None:
        self._bmc = ("127.0.0.1", bmc_port)
        self._entry = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._entry.bind(("127.0.0.1", 0))
        self.port: int = self._entry.getsockname()[1]
        self.seen = self.lost = 0
        self.pass_on: Callable[[bytes], bytes | None] = lambda packet: packet
        """What becomes of a datagram, either way; None: lost."""

    @contextmanager
    def running(self) -> Iterator[Relay]:
        end = threading.Event()
        thread = threading.Thread(target=self._work, args=(end,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()
            self._entry.close()

    def _work(self, end: threading.Event) -> None:
        clients: dict[tuple[str, int], socket.socket] = {}
        with selectors.DefaultSelector() as ready:
            ready.register(self._entry, selectors.EVENT_READ, None)
            while not end.is_set():
                for key, _ in ready.select(0.05):
                    if key.data is None:
                        packet, client = self._entry.recvfrom(2048)
                        if client not in clients:
                            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                            out.connect(self._bmc)
                            clients[client] = out
                            ready.register(out, selectors.EVENT_READ, client)
                        self._send(packet, clients[client].send)
                    else:
                        self._answer(key)
        for out in clients.values():
            out.close()

    def _answer(self, key: selectors.SelectorKey) -> None:
        there = key.fileobj
        assert isinstance(there, socket.socket)
        try:
            packet = there.recv(2048)
        except ConnectionRefusedError:  # the BMC is not there: no one tells ipmitool
            return
        self._send(packet, lambda data: self._entry.sendto(data, key.data))

    def _send(self, packet: bytes, send: Callable[[bytes], int]) -> None:
        self.seen += 1
        changed = self.pass_on(packet)
        if changed is None:
            self.lost += 1
            return
        try:
            send(changed)
        except ConnectionRefusedError:
            self.lost += 1


def every_third_lost() -> Callable[[bytes], bytes | None]:
    count = 0

    def pass_on(packet: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return None if count % 3 == 0 else packet

    return pass_on


def no_free_session(packet: bytes) -> bytes:
    """Turn the BMC's answer to "open session" into a refusal (IPMI 2.0, 13.18)."""
    if len(packet) > 24 and packet[4] == 6 and packet[5] == OPEN_SESSION_RESPONSE:
        size = (8).to_bytes(2, "little")
        return packet[:14] + size + packet[16:17] + bytes([NO_RESOURCES]) + packet[18:24]
    return packet
