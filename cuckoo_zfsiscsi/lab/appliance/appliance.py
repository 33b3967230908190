"""One appliance: an emulated storage server, switched on and off, and told what to run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path
from types import TracebackType
from typing import Literal

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.appliance import channel
from cuckoo_zfsiscsi.lab.appliance.image import Image
from cuckoo_zfsiscsi.lab.command import HANG, LAST_WORDS, last_words, run, tail
from cuckoo_zfsiscsi.lab.machine import Machine, MachineError

CHECKOUT = Path(__file__).parents[3]
"""The project, seen inside at the same path."""
POOL_DISK = 12 << 30
"""Bytes of /dev/vdb, sparse."""
SYSTEM_DISK = 4 << 30
"""Bytes of the disk under the root file system that takes what changes, sparse."""
CPU = "Nehalem,+rdrand,-cx16"
"""The emulator makes what newer ones have of many small steps; random numbers from the start.

Without CMPXCHG16B, which the kernel's allocator would use each time: the emulator stops all other
processors for one, and everything takes twice as long.
"""
KERNEL_OPTIONS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "mitigations=off",
    "nowatchdog",
    "net.ifnames=0",  # eth0, eth1: udev would give them other names
    # Else a kernel that is not given the CPU in the moment in which it looks whether the timer
    # ticks believes that there is none, and stops (io_apic.c, check_timer)
    "no_timer_check",
)
BOOT_TIMEOUT = 900.0
"""Seconds after which a boot is given up. It bounds hangs: on busy processors it takes its time."""
TAP = "appliance"
CACHE = "/var/cache"
"""Inside: where tools keep what they would keep in the checkout."""
OUT = "/out"
"""Inside: the one directory that is shared for writing, `out` of the state directory."""


class Appliance:
    """A storage server that can lose its power.

    What it writes to its disks is there again after the next start, and gone with the state
    directory.

    Args:
        state: its directory, made here; one that exists is used again, with its disks.
        image: what it boots from.
        network: gives it a NIC on that network's bridge; none has no NIC.
        address: of that NIC.
        memory: MiB.
        cpus: how many.
        disks: sizes in bytes of further disks: /dev/vdd, /dev/vde, ...
        extra: more arguments for QEMU.
        checkout: the project that is seen inside.
    """

    def __init__(
        self,
        state: Path,
        image: Image,
        *,
        network: net.Network | None = None,
        address: IPv4Interface | None = None,
        memory: int = 1536,
        cpus: int = 1,
        disks: Sequence[int] = (),
        extra: Sequence[str] = (),
        checkout: Path = CHECKOUT,
    ) -> None:
        if (network is None) != (address is None):
            raise ValueError("a network and an address, or neither")
        self.state = state.absolute()
        self.machine = Machine(self.state)
        self.image = image
        self.network = network
        self.address = address
        self.memory = memory
        self.cpus = cpus
        self.disks = list(disks)
        self.extra = list(extra)
        self.checkout = checkout.absolute()

    @property
    def out(self) -> Path:
        """What is /out inside."""
        return self.state / "out"

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self.machine.pid is not None

    def __enter__(self) -> Appliance:
        self.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.off()

    def start(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Power it on and wait until it takes commands; nothing if it is on.

        Args:
            timeout: seconds.

        Raises:
            LabError: QEMU or the boot failed, with the last words of its console.
            DeadlineExceededError: it took longer.
        """
        deadline = Deadline(timeout)
        if not self.is_on:
            self._disks()
            with _failures():
                (self.state / "argv.json").write_text(json.dumps(self._argv()))
                self._tap()
                self.machine.on()
        try:
            self.run(["true"], timeout=deadline.remaining, cwd="/")
        except BaseException as error:
            self.power_fail()
            if isinstance(error, LabError):
                what = f"the appliance does not start: {error.what}; {self._seen()}"
                raise LabError(what) from error
            if isinstance(error, DeadlineExceededError):  # which has the console already
                what = f"the appliance does not start: {error.what}"
                raise DeadlineExceededError(what) from error
            raise

    def power_fail(self) -> None:
        """Cut the power, whatever it does: nothing of it is told. Nothing if it is off.

        Raises:
            LabError: QEMU survives SIGKILL.
        """
        with _failures():
            self.machine.off()

    off = power_fail  # there is nothing to lose that a storage server may not lose

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        on_output: channel.Output | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> int:
        """Run a command inside, as root; return its exit status. Any thread, up to 8 at once.

        What it said last, and the console, is in the error when its time is up.

        Args:
            argv: program and arguments.
            timeout: seconds; it is ended then.
            on_output: called with what it prints; without, it is thrown away.
            env: more environment; PYTHONPATH and others of `environment` are set already.
            cwd: where it runs; the checkout if not told.

        Raises:
            LabError: it can't be started, or the appliance is or went off.
            DeadlineExceededError: it took longer.
        """
        said = b""

        def listen(stream: Literal["out", "err"], data: bytes) -> None:
            nonlocal said
            said = (said + data)[-LAST_WORDS:]
            if on_output:
                on_output(stream, data)

        try:
            return channel.run(
                self.state,
                argv,
                cwd=cwd or str(self.checkout),
                env={**self.environment, **(env or {})},
                deadline=Deadline(timeout),
                on_output=listen,
            )
        except DeadlineExceededError as error:
            what = f"{error.what}: {tail(said)}; {self._seen()}"
            raise DeadlineExceededError(what, fix=error.fix) from error

    def output(
        self, argv: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command inside; return what it printed to its standard output.

        Raises:
            LabError: it failed, with the end of what it said; and as run().
            DeadlineExceededError: it took longer.
        """
        said: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
        status = self.run(
            argv, timeout=timeout, env=env, on_output=lambda stream, data: said[stream].extend(data)
        )
        if status:
            tail = (said["err"] or said["out"]).decode(errors="replace").strip()[-500:]
            raise LabError(f"{' '.join(argv[:6])} in the appliance: status {status}: {tail}")
        return said["out"].decode(errors="replace")

    @property
    def environment(self) -> dict[str, str]:
        """What every command gets: the checkout, its .venv and Debian's packages for any Python."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        python = [
            self.checkout,
            self.checkout / ".venv/lib" / version / "site-packages",
            "/usr/lib/python3/dist-packages",
        ]
        return {
            "PYTHONPATH": ":".join(map(str, python)),
            # The checkout is read-only inside
            "PYTHONPYCACHEPREFIX": f"{CACHE}/python",
            "PYTEST_ADDOPTS": f"-o cache_dir={CACHE}/pytest",
            "PYTEST_TIMEOUT": "1800",  # an emulated machine takes several times as long
            "HYPOTHESIS_STORAGE_DIRECTORY": f"{CACHE}/hypothesis",
            "COVERAGE_FILE": f"{OUT}/.coverage",
            "LC_ALL": "C.UTF-8",
        }

    def _disks(self) -> None:
        """Make the disks that are not there yet, and the shared directory."""
        self.out.mkdir(parents=True, exist_ok=True)
        sizes = {"pool": POOL_DISK, **{f"disk{n}": size for n, size in enumerate(self.disks)}}
        for name, size in sizes.items():
            with (self.state / f"{name}.raw").open("ab") as disk:
                if not disk.tell():
                    disk.truncate(size)
        system = self.state / "system.raw"
        if not system.exists():
            made = system.with_suffix(".made")
            run(
                ["mke2fs", "-q", "-F", "-t", "ext4", str(made), f"{SYSTEM_DISK >> 20}M"],
                timeout=HANG,
            )
            made.rename(system)

    def _argv(self) -> list[str]:
        at = self.state
        words = [*KERNEL_OPTIONS, f"checkout={self.checkout}"]
        prefix = self.network.prefix if self.network else []
        # From its directory: a socket's path may have 107 bytes at most (unix(7))
        argv = [*prefix, "env", "-C", str(at), "qemu-system-x86_64", "-name", "appliance"]
        argv += ["-machine", "q35,graphics=off", "-accel", "tcg,thread=multi", "-cpu", CPU]
        argv += ["-smp", str(self.cpus), "-m", str(self.memory), "-no-reboot"]
        argv += ["-nodefaults", "-display", "none", "-vga", "none", "-device", "virtio-rng-pci"]
        argv += ["-serial", f"file:{at / 'console'}", "-qmp", "unix:qmp,server=on,wait=off"]
        argv += ["-daemonize", "-pidfile", str(at / "pid")]
        argv += ["-drive", f"file={self.image.root},if=virtio,format=raw,readonly=on"]
        for name in ("pool", "system", *(f"disk{n}" for n in range(len(self.disks)))):
            # "unsafe" with regard to this machine's power, not to the appliance's
            drive = f"file={at / name}.raw,if=virtio,format=raw,cache=unsafe,discard=unmap"
            argv += ["-drive", drive]
        shares = {"checkout": self.checkout, "venv": self.checkout / ".venv", "out": self.out}
        for name, path in shares.items():
            if path.is_dir():
                share = f"local,id={name},path={path},security_model=none,multidevs=remap"
                share += "" if name == "out" else ",readonly=on"
                argv += ["-fsdev", share, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
        argv += channel.devices()
        if self.address:
            words.append(f"address={self.address}")
            argv += ["-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no"]
            argv += ["-device", "virtio-net-pci,netdev=net,mac=52:54:00:99:01:00,romfile="]
        argv += self.extra
        argv += ["-kernel", str(self.image.vmlinuz), "-initrd", str(self.image.initrd)]
        return [*argv, "-append", " ".join(words)]

    def _seen(self) -> str:
        """Return the end of its console, for a message about a wait in vain."""
        return f"the appliance's console: {last_words(self.machine.console)}"

    def _tap(self) -> None:
        """Make its port of the bridge, if it is not there yet."""
        if self.network is None:
            return
        ip = ["ip", "-netns", self.network.name]
        if f" {TAP}:" not in run([*ip, "-o", "link"], timeout=net.TIMEOUT):
            run([*ip, "tuntap", "add", TAP, "mode", "tap"], timeout=net.TIMEOUT)
            run([*ip, "link", "set", TAP, "master", net.BRIDGE, "up"], timeout=net.TIMEOUT)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what the emulated machine raises into the lab's error."""
    try:
        yield
    except MachineError as error:
        raise LabError(f"the appliance: {error}", fix="scripts/setup lab") from error
