"""The lab's power devices, switched by the product's own drivers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.lab import conf, devices, qemu
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import BRIDGE, Network, host_address, mac
from cuckoo_zfsiscsi.lab.server import write_secret
from cuckoo_zfsiscsi.lab.wake import is_magic
from cuckoo_zfsiscsi.lab.watch import inside
from cuckoo_zfsiscsi.power import Power, PowerState
from cuckoo_zfsiscsi.power.connect import make_power, make_witness
from cuckoo_zfsiscsi.power.witness import HostWitness
from tests.waiting import HANG, wait

PASSWORD = "lab.password"
MAC = bytes.fromhex("525400990001")


@pytest.fixture
def machine(network: Network, tmp_path: Path) -> Iterator[Machine]:
    made = qemu.create(tmp_path / "pc1", 1, "bios", network, extra=["-S"])
    yield made
    made.off()


def plug_in_guest(network: Network) -> str:
    """Have a kernel answer as that of the halted machine would; return its namespace."""
    name = f"{network.name}-guest"
    subprocess.run(["ip", "netns", "add", name], check=True)
    peer = ["type", "veth", "peer", "name", "eth0", "address", mac(1), "netns", name]
    network.run(["ip", "link", "add", "guest", *peer])
    network.run(["ip", "link", "set", "guest", "master", BRIDGE, "up"])
    for command in (f"addr add {host_address(1)}/24 dev eth0", "link set eth0 up"):
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    return name


def pid_of(machine: Machine) -> int | None:
    return machine.pid


def configure(
    device: devices.Device, folder: Path, more: Sequence[tuple[conf.Host, str]] = ()
) -> Config:
    text = conf.render(
        service=f"unix://{folder}/api.sock",
        token_file=None,
        run_dir=folder,
        storage=conf.FILES.format(at=folder),
        interface="boot0",
        firmware="bios",
        power=device.keys,
        password_file=write_secret(folder / "secret", PASSWORD),
        prewarm=False,
        more=more,
    )
    path = folder / "zfsiscsi.conf"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize("kind", ["ipmi", "redfish", "wol"])
def test_switched_and_proved(
    kind: devices.Kind, machine: Machine, network: Network, tmp_path: Path
) -> None:
    device = devices.make(kind, machine, network, PASSWORD)
    try:
        device.start()
        config = configure(device, tmp_path)
        host = config.host(conf.LABEL)
        witness = make_witness(config, host)
        assert isinstance(witness, HostWitness)
        power: Power = make_power(host, witness)

        def on_and_off() -> None:
            if kind == "wol":  # its proof is a sign of boot, which the halted machine does not give
                witness.note("dhcp", time.monotonic() + HANG)
            assert power.on(deadline=Deadline(HANG)).state is PowerState.ON
            wait(lambda: pid_of(machine) is not None, what="the packet woke nobody")
            proof = power.off(deadline=Deadline(HANG))
            assert proof.why == "the device says off, and no sign of life for 1 s"
            assert pid_of(machine) is None
            assert power.status(deadline=Deadline(HANG)) is PowerState.OFF

        inside(network, on_and_off)
        inside(network, on_and_off)  # a host without mains is fed before it is woken
        assert machine.boots == 2
    finally:
        device.stop()


@pytest.mark.parametrize("kind", ["redfish", "wol"])
def test_a_device_that_lies(
    kind: devices.Kind, machine: Machine, network: Network, tmp_path: Path
) -> None:
    device = devices.make(kind, machine, network, PASSWORD)
    machine.on()
    (machine.state / "fault").write_text("stuck-on")
    guest = plug_in_guest(network)
    try:
        device.start()
        config = configure(device, tmp_path)
        host = config.host(conf.LABEL)
        power = make_power(host, make_witness(config, host))

        def off() -> None:
            with pytest.raises(PowerError, match=r"it answers ARP|is still on"):
                power.off(deadline=Deadline(15))

        inside(network, off)
        assert machine.pid is not None
    finally:
        device.stop()
        subprocess.run(["ip", "netns", "delete", guest], check=True)


@pytest.mark.parametrize("kind", ["ipmi", "redfish", "wol"])
def test_each_host_has_its_own(
    kind: devices.Kind, network_name: Callable[[], str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(Network(network_name(), hosts=2))
        machines, made = [], []
        for number in (1, 2):
            at = tmp_path / conf.label(number)
            machine = qemu.create(at, number, "bios", network, extra=["-S"])
            device = devices.make(kind, machine, network, PASSWORD, number=number)
            stack.callback(machine.off)
            stack.callback(device.stop)
            device.start()
            machines.append(machine)
            made.append(device)
        host = conf.Host(prewarm=True, reset="rollback")
        config = configure(made[0], tmp_path, [(host, made[1].keys)])
        second = config.host(conf.label(2))
        assert (second.prewarm, second.reset) == (True, "rollback")
        witness = make_witness(config, second)
        assert isinstance(witness, HostWitness)
        power = make_power(second, witness)
        if kind == "wol":  # its proof is a sign of boot, which the halted machine does not give
            witness.note("dhcp", time.monotonic() + HANG)
        inside(network, lambda: power.on(deadline=Deadline(HANG)))
        wait(lambda: machines[1].pid is not None, what="the second host stays off")
        assert machines[0].pid is None


def test_magic() -> None:
    packet = bytes(14) + b"\xff" * 6 + MAC * 16
    assert is_magic(packet, MAC)
    assert is_magic(packet + b"more", MAC)
    assert not is_magic(packet, MAC[::-1])
    assert not is_magic(packet[:-1], MAC)
