"""The iPXE script that boots one generation of a host's disk (https://ipxe.org/cmd/sanboot)."""

from __future__ import annotations

from collections.abc import Mapping

from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.netboot import plain, render_template
from cuckoo_zfsiscsi.netboot.medium import LOADER, Medium

LONGEST_PAUSE = 10
"""Seconds between two tries, at most. They begin at one second and grow by one."""

MENU_TIMEOUT = 60.0
"""Seconds after which an unattended menu goes on."""
ONCE_MORE = 5
"""Seconds after which a host that is reset at each boot asks anew: longer than the service holds
back a second request, lest it take the first one's disk away."""
ASK_AGAIN = range(1, 5)
"""Seconds, one of them, after which a host asks again whose script is not made yet."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
"""What an IQN or a user name is made of (RFC 7143 4.2.7.2); nothing that iPXE expands."""

SECRET = r"[A-Za-z0-9+/=_.-]+"  # noqa: S105 - a pattern

URL = r"https?://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9_./~-]*)?"
"""Of an installer's script: nothing that iPXE expands, no second command."""


def render(export: Export, installer: str | Medium | None = None) -> str:
    """Return the script. It holds the CHAP secret: hand it to its host alone.

    Args:
        export: the disk.
        installer: what goes on while the disk does not boot: the URL of an iPXE script, or the
            medium of Windows.

    Raises:
        NetbootError: a value could change the script's meaning.
    """
    more: dict[str, object] = {"longest_pause": LONGEST_PAUSE}
    if installer is None:
        return _fill("boot.ipxe.j2", export, more)
    if isinstance(installer, Medium):
        files = [plain("a file's name", name, NAME) for name in installer.files if name != LOADER]
        more = {"url": plain("the medium's URL", installer.url, URL), "files": files}
    else:
        more = {"script": plain("the installer's URL", installer, URL)}
    return _fill("install.ipxe.j2", export, more)


def render_once(export: Export, again: str | None) -> str:
    """Return the script of a host that is reset at each boot: good for one boot.

    Args:
        export: the disk.
        again: URL that it asks for another script when the disk does not boot; None: it reboots.

    Raises:
        NetbootError: as render().
    """
    url = again and plain("the boot script's URL", again, URL)
    return _fill("paper.ipxe.j2", export, {"again": url, "pause": ONCE_MORE})


def render_waits() -> list[str]:
    """Return scripts for a host whose own is being made: it asks again, until it gets that.

    They differ in when: a crowd that was told the same would come again at once. They hold nothing
    of the host: whoever gets one knows no more than before.
    """
    return [
        render_template("wait.ipxe.j2", pause=pause, pause_refused=ONCE_MORE) for pause in ASK_AGAIN
    ]


def _fill(template: str, export: Export, more: Mapping[str, object]) -> str:
    who = export.credentials
    return render_template(
        template,
        portal=plain("the portal", export.portal, r"[0-9.]+"),
        port=int(export.port),
        lun=f"{export.lun:x}",  # iPXE reads it as hexadecimal
        target=plain("the target's IQN", export.target, NAME),
        initiator=plain("the initiator's IQN", who.initiator, NAME),
        user=plain("the CHAP user", who.user, NAME),
        secret=plain("the CHAP secret", who.secret, SECRET),
        reverse_user=who.reverse_user and plain("the target's CHAP user", who.reverse_user, NAME),
        reverse_secret=who.reverse_user
        and plain("the target's CHAP secret", who.reverse_secret, SECRET),
        **more,
    )


def render_menu(label: str) -> str:
    """Return the script for a host in maintenance: a menu for who stands before it, and no disk.

    Unattended it asks again every MENU_TIMEOUT, so that it goes on when maintenance ends.

    Raises:
        NetbootError: the label could change the script's meaning.
    """
    return render_template(
        "menu.ipxe.j2",
        label=plain("a host's label", label, r"[a-z0-9-]{1,63}"),
        timeout_ms=round(MENU_TIMEOUT * 1000),
    )
