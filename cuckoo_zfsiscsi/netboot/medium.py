"""What of Windows' installation medium a host boots, by wimboot (https://ipxe.org/wimboot).

wimboot hands a few files to Windows' own loader and puts all others into System32 of Windows PE,
whose first program winpeshl.ini names.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.config import Config, HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ImageError, NetbootError
from cuckoo_zfsiscsi.netboot import iso as medium_image
from cuckoo_zfsiscsi.netboot import plain, render_template
from cuckoo_zfsiscsi.netboot.describe import INSTALL, listener_url
from cuckoo_zfsiscsi.progress import Progress

LOADER = "wimboot"
NEEDED = {"BCD": "boot/bcd", "boot.sdi": "boot/boot.sdi", "boot.wim": "sources/boot.wim"}
"""Files that wimboot knows, and where a medium has them."""
LOADERS = {"bootmgr": "bootmgr", "bootx64.efi": "efi/boot/bootx64.efi"}
"""Windows' own, for BIOS and UEFI: one that the medium has not is in its boot.wim."""
SHARE = r"\\\\[A-Za-z0-9.-]+(\\[A-Za-z0-9$._-]+)+"
"""Of SMB, with the medium's content: nothing that a Windows shell would read otherwise."""
ID = r"[0-9a-f]{16}"


@dataclass(frozen=True)
class Medium:
    """Prepared for one host to boot from."""

    folder: Path
    url: str
    """Under which the boot listener has the files."""

    @property
    def files(self) -> dict[str, Path]:
        """Return them by name, the biggest last."""
        found = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_size)
        return {path.name: path for path in found}

    def remove(self) -> None:
        """Delete it; whoever is loading a file gets the rest of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def place(config: Config) -> Path:
    """Return the folder that the mediums are prepared in."""
    return config.storage.path / "install"


def find(config: Config, host: HostConfig, name: str) -> Medium:
    """Return the medium that prepare() made, as a host gets it from its own network's listener.

    Raises:
        NetbootError: there is none of this name.
    """
    folder = place(config) / plain("a medium's name", name, ID)
    if not (folder / LOADER).is_file():
        raise NetbootError(
            f"nothing is prepared in {folder}", fix="zfsiscsi image install HOST NAME --iso FILE"
        )
    return Medium(folder, f"{listener_url(config, config.network_of(host))}{INSTALL}")


def prepare(
    config: Config,
    host: HostConfig,
    iso: Path,
    share: str | None,
    *,
    deadline: Deadline,
    progress: Progress,
) -> Medium:
    r"""Put what a host needs from a medium where the boot listener can serve it.

    Args:
        config: of the service.
        host: that is going to install.
        iso: image of the medium.
        share: with the medium's content, \\SERVER\SHARE; None: who installs says so by hand.
        deadline: for all of it.
        progress: told of the bytes.

    Raises:
        NetbootError: wimboot or 7-Zip is missing, or a value is not right.
        ImageError: that is no Windows, or can't be read; nothing is left.
        DeadlineExceededError, CancelledError: as it says.
    """
    loader = find_loader(config)
    share = share and plain("the share", share, SHARE)
    there = medium_image.sizes(iso, deadline)
    _check(iso, there)
    parts = NEEDED | {name: path for name, path in LOADERS.items() if path in there}
    total = sum(there[path] for path in parts.values())
    folder = place(config) / secrets.token_hex(8)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    try:
        before = 0
        for name, path in parts.items():
            medium_image.extract(
                iso,
                path,
                folder / name,
                deadline,
                lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
            )
            before += there[path]
        _write(folder / "winpeshl.ini", ["[LaunchApps]", '"install.bat"'])
        script = render_template("install.bat.j2", label=host.label, share=share)
        _write(folder / "install.bat", script.splitlines())
        shutil.copyfile(loader, folder / LOADER)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ImageError(f"{error.filename or folder}: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return find(config, host, folder.name)


def find_loader(config: Config) -> Path:
    """Return wimboot.

    Raises:
        NetbootError: there is none.
    """
    path = config.netboot.wimboot
    if path is None or not path.is_file():
        where = "wimboot is not set" if path is None else f"{path} is not there"
        raise NetbootError(
            f"Windows is started by wimboot, which Debian has no package of: {where}",
            fix="get the file wimboot from https://ipxe.org/wimboot, and name it in [netboot] of "
            "zfsiscsi.conf: wimboot = /usr/local/lib/wimboot",
        )
    return path


def _check(iso: Path, there: Iterable[str]) -> None:
    if missing := sorted(set(NEEDED.values()) - set(there)):
        raise ImageError(
            f"{iso} is no Windows installation medium: {', '.join(missing)} is missing",
            fix="for another system: zfsiscsi image edit HOST NAME --installer URL",
        )


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write a text file as Windows has it."""
    path.write_text("".join(f"{line}\r\n" for line in lines), newline="")
