"""The lab's storage server as a machine of its own: ZFS, LIO, and the service inside it.

Two networks, as in a real lab: the hosts' (boot0, where it is 10.99.0.1), and one for management
(a point-to-point link), by which it reaches the BMCs and is told what to do.
"""

from __future__ import annotations

import secrets
from ipaddress import IPv4Interface
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import conf
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.appliance.appliance import Appliance
from cuckoo_zfsiscsi.lab.appliance.image import Image, build, default_cache
from cuckoo_zfsiscsi.lab.command import run
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.server import IMPORT, Render, Say, await_service, write_secret

LINK = "manage0"
OURS, ITS = IPv4Interface("10.97.0.2/24"), IPv4Interface("10.97.0.1/24")
"""Addresses on the management link."""
MAC = "52:54:00:99:02:00"
API_PORT = 8470
START = 900.0
"""Seconds within which the service must serve, in an emulated machine."""
COMMAND = 600.0
"""Seconds for a short command in it: Python alone takes half a minute to begin when it is busy."""
INSIDE = Path("/out")
"""Where the shared directory is inside."""


class ApplianceServer:
    """Implements Server.

    Args:
        at: directory of the lab.
        network: of the lab; the server is a machine beside what runs in it.
    """

    def __init__(self, at: Path, network: net.Network) -> None:
        self._at = at
        self._network = network
        self._image: Image | None = None
        self.appliance: Appliance
        state = at / "server"
        self.logs = [state / "out/service.log", state / "console"]
        # CAPE's plugin runs outside of the lab's network: the management link ends at a socket
        forward = ["socat", f"UNIX-LISTEN:{at}/api.sock,fork,mode=600"]
        forward.append(f"TCP:{ITS.ip}:{API_PORT}")
        self._forward = Logged(
            [*network.prefix, *forward],
            at / "socat.log",
            at / "socat.pid",
            name="socat",
            install="apt-get install socat",
            grace=1.0,
        )

    def prepare(self, say: Say) -> None:
        """As Server.prepare(): builds the appliance, if it is not in the cache."""
        say("appliance")
        self._image = build(default_cache(), progress=lambda what: say(f"appliance: {what}"))

    def up(self, image: Path, render: Render, password: str, say: Say) -> None:
        """As Server.up()."""
        if self._image is None:
            self.prepare(say)
        assert self._image is not None  # noqa: S101 - prepare() has set it
        say("appliance: boot")
        self._make_link()
        self.appliance = Appliance(
            self._at / "server",
            self._image,
            network=self._network,
            address=net.SERVER,
            extra=self._nic(),
        )
        self.appliance.start()
        self._ip("addr", "add", str(ITS), "dev", "eth1")
        self._ip("link", "set", "eth1", "up")
        self._ip("route", "add", f"{net.BMCS}", "via", str(OURS.ip))
        self._write(render, password)
        say("pool")
        pool = ["zpool", "create", "-o", "ashift=12", "-o", "autotrim=on", conf.POOL, "/dev/vdb"]
        self.appliance.output(pool, timeout=COMMAND)
        self.zfsiscsi("storage", "init", conf.POOL, timeout=COMMAND)
        say("golden image")
        shared = self.appliance.out / "golden.raw"
        run(["cp", "--sparse=always", str(image), str(shared)], timeout=IMPORT)
        self.zfsiscsi("image", "import", conf.IMAGE, str(INSIDE / shared.name), timeout=IMPORT)
        shared.unlink()
        say("service")
        self._start_service()

    def _start_service(self) -> None:
        serve = f"exec setsid {' '.join(self._argv('serve'))} </dev/null"
        serve += f" >>{INSIDE}/service.log 2>&1"
        self.appliance.output(["sh", "-c", f"({serve}) &"], timeout=COMMAND)
        socket = self._at / "api.sock"
        self._forward.start(Deadline(START), socket.exists)
        await_service(self._at, Deadline(START), self.logs[0])

    def down(self) -> None:
        """As Server.down(): what an emulated machine has to lose goes with it."""
        self._forward.stop(Deadline(5.0))
        if hasattr(self, "appliance"):
            self.appliance.off()

    def _write(self, render: Render, password: str) -> None:
        """Write the server's configuration, and CAPE's copy of it."""
        token = secrets.token_hex(16)
        out = self.appliance.out
        for folder in (self._at, out):
            write_secret(folder / "token", token)
            write_secret(folder / "bmc.password", password)
        (out / "zfsiscsi.conf").write_text(
            render(
                service=f"http://{ITS.ip}:{API_PORT}",
                token_file=INSIDE / "token",
                run_dir=Path("/run/zfsiscsi"),
                storage=conf.ZFS,
                interface="eth0",
                password_file=INSIDE / "bmc.password",
            )
        )
        (self._at / "zfsiscsi.conf").write_text(
            render(
                service=f"unix://{self._at}/api.sock",
                token_file=self._at / "token",
                run_dir=self._at / "run",
                storage=conf.ZFS,
                interface=net.BRIDGE,
                password_file=self._at / "bmc.password",
            )
        )

    def _argv(self, *words: str) -> list[str]:
        python = ["/usr/bin/python3", "-m", "cuckoo_zfsiscsi"]
        return [*python, "--conf", str(INSIDE / "zfsiscsi.conf"), *words]

    def zfsiscsi(self, *words: str, timeout: float) -> str:
        """As Server.zfsiscsi()."""
        return self.appliance.output(self._argv(*words), timeout=timeout)

    def _ip(self, *words: str) -> None:
        self.appliance.output(["ip", *words], timeout=COMMAND)

    def _make_link(self) -> None:
        ip = ["ip", "-netns", self._network.name]
        for words in (
            ["tuntap", "add", LINK, "mode", "tap"],
            ["addr", "add", str(OURS), "dev", LINK],
            ["link", "set", LINK, "up"],
        ):
            run([*ip, *words], timeout=net.TIMEOUT)

    @staticmethod
    def _nic() -> list[str]:
        nic = ["-netdev", f"tap,id=manage,ifname={LINK},script=no,downscript=no"]
        return [*nic, "-device", f"virtio-net-pci,netdev=manage,mac={MAC},romfile="]
