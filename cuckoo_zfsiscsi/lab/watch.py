"""Watches a host from outside, in the lab's network; enters that network."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.network import FOLDER, Namespace, Network
from cuckoo_zfsiscsi.measure import watch as outside
from cuckoo_zfsiscsi.readiness import Answer, agent

CLONE_NEWNET = 0x40000000  # sched.h

T = TypeVar("T")


def enter(network: Namespace) -> None:
    """Move the calling thread, and it alone, into the network (setns(2); os.setns is 3.12's).

    Raises:
        LabError: it is gone, or we are not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        namespace = os.open(FOLDER / network.name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"the network {network.name}: {error.strerror}") from None
    try:
        if libc.setns(namespace, CLONE_NEWNET):
            raise LabError(f"the network {network.name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(namespace)


def inside(network: Namespace, call: Callable[[], T]) -> T:
    """Call something in the network; return what it returned, raise what it raised."""
    result: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            enter(network)
            result.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failed.append(error)

    thread = threading.Thread(target=body, name="inside", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


class Watch(outside.Watch):
    """Probes RPC of one host in the lab's network.

    Args:
        network: where the host is.
        address: its IP address.
    """

    def __init__(self, network: Network, address: str) -> None:
        super().__init__(address, enter=partial(enter, network))
        self._network = network

    def agent(self) -> Answer:
        """Ask the agent once, now."""
        return inside(self._network, lambda: agent.probe(self.address, deadline=Deadline(5.0)))
