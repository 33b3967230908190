"""The paper's own servers: ISC dhcpd whose hook resets before it answers iPXE, and tftpd-hpa.

Figure 2 of "Bootable system snapshot for physical machines", step by step: PXE asks DHCP, loads
undionly.kpxe by TFTP, iPXE asks DHCP, the disk is reset, the answer leaves, and iPXE loads its
script by TFTP: every host under the same name, and each its own.
"""

from __future__ import annotations

import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import OnEvent, isc, paper_hook, plain, render_template
from cuckoo_zfsiscsi.netboot.address import ensure_addresses
from cuckoo_zfsiscsi.netboot.describe import describe
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq
from cuckoo_zfsiscsi.netboot.lines import ServerLog
from cuckoo_zfsiscsi.netboot.paper_door import Ask, PaperDoor
from cuckoo_zfsiscsi.netboot.server import CLOSE_TIMEOUT, DhcpServer, Program

log = logging.getLogger(__name__)

BOOT_FILES = ("undionly.kpxe", "ipxe.efi", "snponly.efi")
PATH = r"/[A-Za-z0-9_./+-]*"
SOCKET = "paper.sock"
"""In the service's run_dir: dhcpd's hook asks there."""
# tftpd(8), filename remapping: the name becomes a file of whoever asks; every other is refused.
MAP = """\
re ^/?boot\\.ipxe$ /scripts/\\i.ipxe
re ^/?(undionly\\.kpxe|ipxe\\.efi|snponly\\.efi)$ /\\1
a .*
"""


def render(config: Config) -> str:
    """Return dhcpd's configuration.

    Raises:
        NetbootError: a value could change its meaning.
    """
    (net,) = describe(config)
    run_dir = config.zfsiscsi.run_dir
    for host in net.hosts:
        if host.boot_file and host.boot_file not in BOOT_FILES:
            raise NetbootError(
                f"{host.label}.boot_file: the paper's servers have no {host.boot_file}",
                fix=f"boot_file = {BOOT_FILES[-1]}, or another dhcp in [netboot]",
            )
    return render_template(
        "paper_dhcpd.conf.j2",
        net=net,
        python=plain("the path of Python", sys.executable, PATH),
        hook=plain("the path of the hook", Path(paper_hook.__file__).resolve(), PATH),
        socket=plain("zfsiscsi.run_dir", run_dir / SOCKET, PATH),
        scripts=plain("zfsiscsi.run_dir", scripts(config), PATH),
    )


class PaperFiles:
    """Runs tftpd, and answers dhcpd's hook. Implements Netboot.

    Args:
        config: of the service; what the servers need goes to its run_dir.
        ask: for a host's boot script.
    """

    def __init__(self, config: Config, ask: Ask) -> None:
        self._config = config
        run_dir = config.zfsiscsi.run_dir
        self._root = tftp_root(config)
        self._map = run_dir / "tftpd.map"
        self._door = PaperDoor(config.hosts, ask, run_dir / SOCKET, scripts(config))
        self._tftpd = Daemon(
            # --secure: nothing else is there for it, and run_dir may be closed to its user
            ["in.tftpd", "--foreground", "--ipv4", "--permissive", "--secure", "--user", "tftp",
             "--address", f"{config.netboot.address.ip}:69", "--map-file", str(self._map),
             str(self._root)],
            run_dir / "tftpd.pid",
            on_line=ServerLog(log, "in.tftpd: ", config.hosts).write,
            error=NetbootError,
            install="apt install tftpd-hpa",
            fix="who has its port? ss -lunp 'sport = :69'",
        )  # fmt: skip
        # The paper has none, but iPXE waits 13 s for an advertisement before it loads anything
        self._advertiser = Dnsmasq(config, lambda *_: None, dhcp=False, tftp=False)

    def open(self, deadline: Deadline) -> None:
        """As Netboot.open()."""
        ensure_addresses(self._config.networks[0])
        self._root.mkdir(mode=0o755, exist_ok=True)
        for name in BOOT_FILES:
            source = self._config.netboot.tftp_root / name
            if source.is_file():
                shutil.copyfile(source, self._root / name)
        self._map.write_text(MAP)
        self._door.close()
        try:
            self._door.open()
        except OSError as error:
            raise NetbootError(f"dhcpd's hook can't be answered: {error}") from None
        self._tftpd.start(deadline, ready=lambda: True)
        if self._config.netboot.ra_prefix:
            self._advertiser.open(deadline)

    def alive(self) -> bool:
        """As Netboot.alive()."""
        is_advertised = not self._config.netboot.ra_prefix or self._advertiser.alive()
        return is_advertised and self._tftpd.alive()

    def close(self) -> None:
        """As Netboot.close()."""
        self._advertiser.close()
        self._tftpd.stop(Deadline(CLOSE_TIMEOUT))
        self._door.close()


def tftp_root(config: Config) -> Path:
    """Return the folder that hosts load from by TFTP."""
    return config.zfsiscsi.run_dir / "tftp"


def scripts(config: Config) -> Path:
    """Return the folder of the hosts' boot scripts, in it."""
    return tftp_root(config) / "scripts"


def make(config: Config, on_event: OnEvent, ask: Ask) -> DhcpServer:
    """Return both servers, not open yet.

    dhcpd stays root: its hook asks the service, and runs what its configuration says, so nobody
    else may write that.
    """

    def program(folder: Path) -> Program:
        usual = isc.program(folder, [config.netboot.interface], user=None)
        return replace(usual, owner=("root", "root"))

    return DhcpServer(
        config,
        on_event,
        program=program,
        render=render,
        beside=PaperFiles(config, ask),
        folder="paper",
    )
