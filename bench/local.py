"""The machines that bench.recovery compares netboot with: the same one, with a disk inside."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.start import SNAPSHOT, answers, ask_qemu
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab import qemu
from cuckoo_zfsiscsi.lab.guest_disk import BOOT_START
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.static import HTTP_PORT, dnsmasq_conf
from cuckoo_zfsiscsi.lab.watch import enter, inside

BOOT = 600.0
"""Seconds that a boot may take on a busy machine."""
DEPLOY = """\
#!ipxe
kernel {url}/vmlinuz console=ttyS0,115200 quiet mitigations=off initrd=initrd deploy={url}
initrd {url}/initrd
boot
"""
TO_DISK = "#!ipxe\nexit\n"
"""Goes on to the next boot device, as FOG's menu does by itself."""


class LocalHost:
    """A machine with a disk, in a network of its own.

    Args:
        image: what its disk holds.
        at: an empty directory.
        network: where it is.
        disk_first: it boots from its disk; else from the network, and from the disk after that.
    """

    def __init__(self, image: Path, at: Path, network: net.Network, *, disk_first: bool) -> None:
        self.image = image
        self.network = network
        self.address = str(net.host_address(1))
        self.disk = at / "disk.qcow2"
        at.mkdir()
        drive = f"if=none,id=inside,format=qcow2,file={self.disk}"
        order = 0 if disk_first else 2  # the card has 1
        extra = ["-device", "virtio-scsi-pci,id=scsi", "-drive", drive]
        extra += ["-device", f"scsi-hd,drive=inside,bus=scsi.0,bootindex={order}"]
        self.machine: Machine = qemu.create(at / "host", 1, "bios", network, extra=extra)

    def revert(self) -> None:
        """Put the disk back: a new overlay over the image, as a snapshot revert does."""
        self.disk.unlink(missing_ok=True)
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(self.image)]
        subprocess.run([*overlay, str(self.disk)], check=True)

    def blank(self) -> None:
        """Put in an empty disk of the image's size, in place of what was there."""
        self.disk.unlink(missing_ok=True)
        size = str(self.image.stat().st_size)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.disk, size], check=True)

    def save(self) -> None:
        """Make the snapshot of the running machine that load() goes back to."""
        deadline = Deadline(BOOT)
        while not inside(self.network, lambda: answers(self.address)):
            deadline.sleep(0.2, "the first boot")
        time.sleep(3)  # until it is idle
        if said := ask_qemu(self.machine, f"savevm {SNAPSHOT}"):
            raise LabError(f"savevm: {said}")

    def load(self) -> None:
        """Power it on with memory and disk as they were in the snapshot."""
        argv = self.machine.state / "argv.json"
        cold = argv.read_text()
        try:
            argv.write_text(cold.removesuffix("]") + f', "-loadvm", "{SNAPSHOT}"]')
            self.machine.on()
        finally:
            argv.write_text(cold)


class DeployServer:
    """What a FOG server does, as little of it: DHCP, a script per boot, and the image.

    Args:
        image: what it deploys.
        at: an empty directory.
        network: where it serves.
    """

    def __init__(self, image: Path, at: Path, network: net.Network) -> None:
        at.mkdir()
        self._network = network
        self._url = f"http://{net.SERVER.ip}:{HTTP_PORT}"
        self.pending = False
        """The next boot writes the image."""
        self.deployed = 0
        self._files = {"image.gz": at / "image.gz"}
        with image.open("rb") as source, gzip.open(self._files["image.gz"], "wb", 6) as packed:
            shutil.copyfileobj(source, packed, 1 << 20)
        for name in ("vmlinuz", "initrd"):
            self._files[name] = at / name
            copy = ["mcopy", "-i", f"{image}@@{BOOT_START}", f"::/{name}", str(at / name)]
            subprocess.run(copy, check=True)
        conf = at / "dnsmasq.conf"
        conf.write_text(dnsmasq_conf(at))
        dhcp = ["dnsmasq", "--keep-in-foreground", f"--conf-file={conf}", "--log-facility=-"]
        self._dnsmasq = Daemon(
            [*network.prefix, *dhcp],
            at / "dnsmasq.pid",
            error=LabError,
            install="apt-get install dnsmasq-base",
        )

    def answer(self, path: str) -> bytes | Path | None:
        """Return what one request gets; None: nothing has that name."""
        name = path.strip("/")
        if name == "boot.ipxe":
            return (DEPLOY.format(url=self._url) if self.pending else TO_DISK).encode()
        if name == "done":
            self.pending, self.deployed = False, self.deployed + 1
            return b"ok"
        return self._files.get(name)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve."""
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = owner.answer(self.path)
                if found is None:
                    self.send_error(404)
                    return
                size = found.stat().st_size if isinstance(found, Path) else len(found)
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if isinstance(found, Path):
                    with found.open("rb") as file:
                        shutil.copyfileobj(file, self.wfile, 1 << 20)
                else:
                    self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        servers: list[http.server.ThreadingHTTPServer] = []
        up = threading.Event()

        def serve() -> None:
            enter(self._network)
            with http.server.ThreadingHTTPServer((str(net.SERVER.ip), HTTP_PORT), Handler) as one:
                servers.append(one)
                up.set()
                one.serve_forever()

        thread = threading.Thread(target=serve, name="deploy", daemon=True)
        thread.start()
        if not up.wait(10):
            raise LabError("the deploy server does not serve")
        self._dnsmasq.start(Deadline(20), lambda: True)
        try:
            yield
        finally:
            self._dnsmasq.stop(Deadline(2))
            for server in servers:
                server.shutdown()
            thread.join(10)
