"""A static target, DHCP configuration and boot script, with no software of ours on the path.

What the product is compared with: the same host and disk, served as fast as a fixed set-up can.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import HANG, run

IQN = "iqn.2026-01.lab.static"
DHCP_PORT = 67
HTTP_PORT = 8472
TFTP_ROOT = Path("/usr/lib/ipxe")

DNSMASQ = """\
port=0
interface={bridge}
bind-interfaces
no-hosts
no-resolv
no-ping
dhcp-authoritative
dhcp-no-override
dhcp-leasefile={folder}/leases
pid-file=
user=root
enable-tftp
tftp-root={tftp}
dhcp-range={first},static,255.255.255.0,1h
dhcp-userclass=set:ipxe,iPXE
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:efi,option:client-arch,9
dhcp-boot=tag:!ipxe,tag:!efi,undionly.kpxe
dhcp-boot=tag:!ipxe,tag:efi,{boot_file}
dhcp-boot=tag:ipxe,http://{server}:{http}/boot.ipxe
# No waiting for a proxy DHCP server (encapsulated iPXE option 176), none for IPv6
dhcp-option=encap:175,176,1b
# No router: iSCSI must not go that way
dhcp-option=option:router
enable-ra
dhcp-range={ra},ra-only,64
"""
SCRIPT = """\
#!ipxe
set initiator-iqn {iqn}:initiator
:retry
sanboot --drive 0x80 iscsi:{server}::3260:1:{iqn}:{target} ||
sleep 2
goto retry
"""
EFI_FILE = "snponly.efi"
"""What a UEFI host is given."""


def dnsmasq_conf(folder: Path, number: int = 1, boot_file: str = EFI_FILE) -> str:
    """Return dnsmasq's configuration for one host, whose script an HTTP server must have.

    Args:
        folder: for its leases.
        number: of the host, see lab.network.
        boot_file: for UEFI.
    """
    text = DNSMASQ.format(
        bridge=net.BRIDGE,
        boot_file=boot_file,
        folder=folder,
        tftp=TFTP_ROOT,
        first=net.SERVER.network.network_address,
        server=net.SERVER.ip,
        http=HTTP_PORT,
        ra=net.RA_PREFIX.network_address,
    )
    return text + f"dhcp-host={net.mac(number)},{net.host_address(number)},host{number}\n"


class StaticServers:
    """dnsmasq, tgtd and an HTTP server of files, all with fixed configurations, for one host.

    Args:
        network: where they serve.
        disk: file to export, written by the guest.
        folder: for their files; made here.
        number: of the host, see lab.network.
        boot_file: for UEFI.
    """

    def __init__(
        self,
        network: net.Network,
        disk: Path,
        folder: Path,
        *,
        number: int = 1,
        boot_file: str = "",
    ) -> None:
        self._boot_file = boot_file or EFI_FILE
        self._disk = disk.absolute()
        self._number = number
        self._folder = folder.absolute()
        self._network = network
        self._control = {"TGT_IPC_SOCKET": str(self._folder / "tgtd.socket")}
        server = str(net.SERVER.ip)
        target = ["tgtd", "--foreground", "--iscsi", f"portal={server}:3260"]
        dhcp = ["dnsmasq", "--keep-in-foreground", f"--conf-file={self._folder / 'dnsmasq.conf'}"]
        dhcp += ["--log-facility=-"]
        http = ["busybox", "httpd", "-f", "-p", f"{server}:{HTTP_PORT}"]
        http += ["-h", str(self._folder / "www")]
        self._tgtd = self._daemon("tgtd", target, "tgt")
        self._others = {
            f"udp sport = :{DHCP_PORT}": self._daemon("dnsmasq", dhcp, "dnsmasq-base"),
            f"tcp sport = :{HTTP_PORT}": self._daemon("httpd", http, "busybox"),
        }

    def start(self) -> None:
        """Start them; return when they serve.

        Raises:
            LabError, DeadlineExceededError: one does not.
        """
        www = self._folder / "www"
        www.mkdir(parents=True, exist_ok=True)
        names = {"server": net.SERVER.ip, "iqn": IQN, "target": f"host{self._number}"}
        (www / "boot.ipxe").write_text(SCRIPT.format(**names))
        text = dnsmasq_conf(self._folder, self._number, self._boot_file)
        (self._folder / "dnsmasq.conf").write_text(text)
        self._tgtd.start(Deadline(HANG), self._tgtd_answers)
        self._tgtadm("new", "target", "-T", f"{IQN}:host{self._number}")
        self._tgtadm("new", "logicalunit", "--lun", "1", "-b", str(self._disk))
        self._tgtadm("bind", "target", "-I", "ALL")
        for socket, daemon in self._others.items():
            daemon.start(Deadline(HANG), partial(self._listens, socket))

    def stop(self) -> None:
        """End them. May be called again."""
        for daemon in (*self._others.values(), self._tgtd):
            daemon.stop(Deadline(2.0))

    def __enter__(self) -> StaticServers:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.stop()

    def _daemon(self, name: str, argv: list[str], package: str) -> Daemon:
        return Daemon(
            [*self._network.prefix, *argv],
            self._folder / f"{name}.pid",
            env=self._control,
            error=LabError,
            install=f"apt-get install {package}",
        )

    def _tgtadm(self, verb: str, mode: str, *options: str) -> None:
        argv = ["tgtadm", "--lld", "iscsi", "--op", verb, "--mode", mode, "--tid", "1", *options]
        run(argv, timeout=HANG, env=self._control)

    def _listens(self, socket: str) -> bool:
        protocol, _, sockets = socket.partition(" ")
        show = ["ss", "--no-header", "--listening", "--numeric", f"--{protocol}", sockets]
        return bool(self._network.run(show))

    def _tgtd_answers(self) -> bool:
        show = ["tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"]
        try:
            run(show, timeout=HANG, env=self._control)
        except LabError:
            return False
        return True


def copy_disk(image: Path, disk: Path) -> None:
    """Make a writable copy of an image, as quickly as the file system can.

    Raises:
        LabError: it can't be copied.
    """
    disk.unlink(missing_ok=True)
    run(["cp", "--reflink=auto", "--sparse=always", str(image), str(disk)], timeout=600)
    disk.chmod(0o600)
