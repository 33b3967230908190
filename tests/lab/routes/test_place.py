"""The servers that a sample may call, each asked as a guest would ask it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.network import FOLDER, Namespace
from cuckoo_zfsiscsi.lab.routes.place import Place
from cuckoo_zfsiscsi.lab.routes.traffic import INETSIM, Server

ADDRESS = IPv4Address("10.96.0.2")


@pytest.fixture
def guest(network_name: Callable[[], str]) -> Iterator[Namespace]:
    with Namespace(network_name()) as made:
        yield made


@pytest.fixture
def place(network_name: Callable[[], str], guest: Namespace, tmp_path: Path) -> Iterator[Place]:
    made = Place(network_name(), tmp_path / "place")
    try:
        made.up(guest, "wire0", IPv4Interface(f"{ADDRESS}/24"), IPv4Interface("10.96.0.3/24"))
        guest.ip("addr add 10.96.0.1/24 dev wire0")
        yield made
    finally:
        made.down()
        made.down()
        assert not (FOLDER / made.namespace.name).exists()


def get(guest: Namespace, url: str) -> str:
    return guest.run(["curl", "--silent", "--include", url])


def lookup(guest: Namespace, name: str, server: str) -> str:
    return guest.run(["busybox", "nslookup", "-type=a", name, server])


def shared_memory() -> str:
    return subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout


def test_pages(place: Place, guest: Namespace) -> None:
    place.serve_page(Server("C2", str(ADDRESS), b"token"))
    place.serve_page(Server("other", "10.96.0.3", b"another"))
    assert get(guest, f"http://{ADDRESS}/").endswith("\r\n\r\ntoken")
    assert get(guest, "http://10.96.0.3/").endswith("\r\n\r\nanother")


def test_names(place: Place, guest: Namespace) -> None:
    place.serve_names(ADDRESS, {"c2.example": IPv4Address("203.0.113.10")})
    assert "Address: 203.0.113.10\n" in lookup(guest, "c2.example", str(ADDRESS))
    with pytest.raises(LabError):
        lookup(guest, "other.example", str(ADDRESS))


def test_a_simulation(place: Place, guest: Namespace) -> None:
    """Every name leads to it; it says what it is, and leaves nothing in shared memory."""
    before = shared_memory()
    place.serve_simulation(ADDRESS)
    assert f"Address: {ADDRESS}\n" in lookup(guest, "c2.example", str(ADDRESS))
    assert INETSIM.decode() in get(guest, f"http://{ADDRESS}/any")
    assert shared_memory() == before


def test_a_server_that_is_not_installed(place: Place) -> None:
    for argv in (["no-such-server"], ["unshare", "--ipc", "no-such-server"]):
        with pytest.raises(LabError, match=r"apt-get install inetsim"):
            place.serve(argv, ADDRESS, 80, "inetsim")
