from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab.network import Namespace
from cuckoo_zfsiscsi.lab.routes import recording
from cuckoo_zfsiscsi.lab.routes.place import link
from cuckoo_zfsiscsi.lab.routes.recording import Recording
from cuckoo_zfsiscsi.lab.routes.traffic import packets
from cuckoo_zfsiscsi.lab.watch import inside


@pytest.fixture
def pair(network_name: Callable[[], str]) -> Iterator[tuple[Namespace, Namespace]]:
    with Namespace(network_name()) as one, Namespace(network_name()) as other:
        link(one, "wire0", other, "eth0")
        one.ip("addr add 10.0.0.1/24 dev wire0")
        other.ip("addr add 10.0.0.2/24 dev eth0")
        yield one, other


def send(namespace: Namespace, to: str, port: int) -> None:
    def body() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"x", (to, port))

    inside(namespace, body)


def test_all_until_now(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    one, other = pair
    kept = Recording(one, "wire0", tmp_path / "wire.pcap", "udp port 7")
    kept.start()
    try:
        for count in range(1, 50):
            send(*((one, "10.0.0.2") if count % 2 else (other, "10.0.0.1")), 7)
            send(one, "10.0.0.2", 8)
            assert len(list(packets(kept.read()))) == count
        before = kept.read()
        send(other, "10.0.0.1", 7)
        after = kept.read()
        assert after.startswith(before)
        (last,) = packets(after[len(before) :])
        assert last.source == "10.0.0.2"
    finally:
        kept.stop()


def test_an_interface_that_is_down(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    one, _ = pair
    kept = Recording(one, "wire0", tmp_path / "wire.pcap", "ip")
    kept.start()
    try:
        one.ip("link set wire0 down")
        with pytest.raises(OSError, match="Network is down"):
            kept.read()
    finally:
        kept.stop()


def test_a_capture_that_does_not_go_on(
    pair: tuple[Namespace, Namespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = pair
    kept = Recording(one, "wire0", tmp_path / "wire.pcap", "ip")
    kept.start()
    kept.stop()
    monkeypatch.setattr(recording, "Deadline", lambda _seconds: Deadline(0.2))
    with pytest.raises(DeadlineExceededError, match="the capture of wire0"):
        kept.read()


def test_a_filter_that_is_none(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"tcpdump ended .*nonsense"):
        Recording(pair[0], "wire0", tmp_path / "wire.pcap", "nonsense at all").start()
