from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import chassis, qemu
from cuckoo_zfsiscsi.lab import machine as machine_module
from cuckoo_zfsiscsi.lab.machine import Machine, MachineError
from cuckoo_zfsiscsi.lab.network import Network

CHECKOUT = Path(chassis.__file__).parents[2]


def pid_of(machine: Machine) -> int | None:
    return machine.pid


@pytest.fixture
def machine(network: Network, tmp_path: Path) -> Iterator[Machine]:
    """QEMU, whole, but its CPU never starts."""
    made = qemu.create(tmp_path / "m", 1, "bios", network, extra=["-S"])
    yield made
    made.off()


def test_on_and_off(machine: Machine, network: Network) -> None:
    assert (machine.pid, machine.boots, machine.powered_on) == (None, 0, 0.0)
    before = time.time()
    machine.on()
    pid = machine.pid
    assert pid in network.pids()
    assert machine.boots == 1
    assert before - 0.1 < machine.powered_on < time.time()  # the kernel's clock of files is coarse
    assert machine.console.exists()
    machine.on()
    assert (machine.pid, machine.boots) == (pid, 1)
    machine.off()
    assert machine.pid is None
    machine.off()
    machine.on()
    assert machine.boots == 2
    assert machine.console.name == "console-2.log"
    assert (machine.state / "console-1.log").exists()


def test_another_process_sees_the_same(machine: Machine) -> None:
    Machine(machine.state).on()
    assert machine.pid
    Machine(machine.state).off()
    assert machine.pid is None


def test_it_has_no_disk_and_little_memory(machine: Machine) -> None:
    argv = json.loads((machine.state / "argv.json").read_text())
    assert argv[argv.index("-m") + 1] == "256"
    assert not {"-drive", "-hda", "-blockdev"} & set(argv)


@pytest.mark.parametrize("content", ["", "nonsense", "0", "999999999", "ours"])
def test_a_stale_pid_file(machine: Machine, content: str) -> None:
    (machine.state / "pid").write_text(content.replace("ours", str(os.getpid())))
    assert machine.pid is None
    machine.off()
    machine.on()
    assert machine.pid not in (None, os.getpid())


def test_two_at_once_start_one(machine: Machine) -> None:
    failed: list[BaseException] = []

    def switch() -> None:
        try:
            machine.on()
        except MachineError as error:
            failed.append(error)

    threads = [threading.Thread(target=switch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert machine.boots == 1


def test_it_does_not_inherit_the_environment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFSISCSI_DAEMON", "someone's mark")
    machine.on()
    assert b"ZFSISCSI" not in Path(f"/proc/{machine.pid}/environ").read_bytes()


def test_killed_by_someone_else(machine: Machine) -> None:
    machine.on()
    assert machine.pid
    os.kill(machine.pid, signal.SIGKILL)
    machine.off()
    assert machine.pid is None


def test_buttons(machine: Machine) -> None:
    machine.press()
    machine.reset()
    machine.on()
    machine.reset()
    machine.press()
    with pytest.raises(MachineError, match="refused nonsense"):
        machine.qmp("nonsense")


def test_qemu_that_does_not_answer(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.on()
    assert machine.pid
    monkeypatch.setattr(machine_module, "PATIENCE", 0.2)
    os.kill(machine.pid, signal.SIGSTOP)
    with pytest.raises(MachineError, match="does not answer"):
        machine.reset()
    os.kill(machine.pid, signal.SIGCONT)


def test_an_immortal_qemu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.on()
    with monkeypatch.context() as patch:
        patch.setattr(machine_module, "PATIENCE", 0.0)
        patch.setattr(os, "kill", lambda *_: None)
        with pytest.raises(MachineError, match="can't be killed"):
            machine.off()


def test_qemu_refuses(network: Network, tmp_path: Path) -> None:
    broken = qemu.create(tmp_path / "m", 1, "bios", network, extra=["-nonsense"])
    with pytest.raises(MachineError, match=r"status 1.*nonsense"):
        broken.on()
    assert broken.pid is None


def test_qemu_is_missing(tmp_path: Path) -> None:
    (tmp_path / "argv.json").write_text('["no-such-qemu"]')
    with pytest.raises(MachineError, match="not installed"):
        Machine(tmp_path).on()


def test_uefi_keeps_its_variables(network: Network, tmp_path: Path) -> None:
    made = qemu.create(tmp_path / "m", 1, "uefi", network, extra=["-S"])
    variables = made.state / "uefi-variables.fd"
    size = variables.stat().st_size
    variables.write_bytes(bytes(size))
    qemu.create(tmp_path / "m", 1, "uefi", network, extra=["-S"])
    assert not any(variables.read_bytes())
    made.on()
    made.off()


def test_no_uefi_firmware(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "OVMF", tmp_path / "nowhere")
    with pytest.raises(LabError, match="ovmf"):
        qemu.create(tmp_path / "m", 1, "uefi", network)


def run_chassis(machine: Machine, *words: str) -> int:
    return chassis.main([str(machine.state), *words])


def test_chassis_reads(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_chassis(machine, "get", "power", "boot", "other") == 0
    assert capsys.readouterr().out == "power:0\nboot:default\n"
    machine.on()
    assert run_chassis(machine, "get", "power") == 0
    assert capsys.readouterr().out == "power:1\n"


def test_chassis_switches(machine: Machine) -> None:
    assert run_chassis(machine, "check", "power", "1") == 0
    assert pid_of(machine) is None
    assert run_chassis(machine, "set", "power", "1") == 0
    assert pid_of(machine)
    assert run_chassis(machine, "set", "reset", "1", "shutdown", "1", "boot", "pxe") == 0
    assert run_chassis(machine, "set", "power", "0") == 0
    assert pid_of(machine) is None
    assert run_chassis(machine, "set", "boot") == 0


def test_chassis_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "argv.json").write_text('["no-such-qemu"]')
    assert run_chassis(Machine(tmp_path), "set", "power", "1") == 1
    assert "no-such-qemu" in capsys.readouterr().err


def test_stuck_on(machine: Machine) -> None:
    machine.on()
    (machine.state / "fault").write_text("stuck-on\n")
    assert run_chassis(machine, "set", "power", "0") == 0
    assert machine.pid
    (machine.state / "fault").unlink()
    assert run_chassis(machine, "set", "power", "0") == 0
    assert machine.pid is None


def test_stuck_off(machine: Machine) -> None:
    (machine.state / "fault").write_text("stuck-off")
    assert run_chassis(machine, "set", "power", "1") == 0
    assert machine.pid is None


def test_slow(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.state / "fault").write_text("slow 0.3")
    began = time.monotonic()
    assert run_chassis(machine, "get", "power") == 0
    assert time.monotonic() - began >= 0.3
    assert capsys.readouterr().out == "power:0\n"
    (machine.state / "fault").write_text("")
    assert run_chassis(machine, "set", "power", "1") == 0
    assert machine.pid


def test_chassis_loads_little(machine: Machine) -> None:
    """The BMC waits for it: of ours it takes what it needs, and nothing of site-packages."""
    program = (
        "import sys; from cuckoo_zfsiscsi.lab import chassis\n"
        "chassis.main(sys.argv[1:]); print(*sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-E", "-c", program, str(machine.state), "get", "power"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    modules = set(said.split())
    ours = {name for name in modules if name.startswith("cuckoo_zfsiscsi.")}
    assert ours == {f"cuckoo_zfsiscsi.lab{name}" for name in ("", ".chassis", ".machine")}
    assert not {name.partition(".")[0] for name in modules} & {"pydantic", "typing", "asyncio"}


def test_a_long_path_of_the_state_directory(network: Network, tmp_path: Path) -> None:
    state = tmp_path / ("d" * 60) / ("e" * 60)
    long = qemu.create(state, 1, "bios", network, extra=["-S"])
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match="too long"):
        probe.bind(str(state / "qmp"))
    long.on()
    try:
        long.reset()
    finally:
        long.off()
