from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.doctor.python import check_python
from tests.doctor.server import Server

SETTINGS = "home = {home}\ninclude-system-site-packages = {see}\nversion = 3.11.2\n"


def hide(server: Server, module: str) -> None:
    """Let the service's Python have no such module, but the system's."""
    server.say(f"/opt/zfsiscsi/bin/python -c import {module}", code=1,
               err="ModuleNotFoundError")  # fmt: skip
    server.say(f"/usr/bin/python3 -c import {module}")


def test_not_installed(server: Server) -> None:
    hide(server, "rtslib_fb")
    server.say("/usr/bin/python3 -c import rtslib_fb", code=1)
    one = server.problem(check_python)
    assert (one.level, one.fix) == ("error", "apt install python3-rtslib-fb")


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        (
            SETTINGS.format(home="/usr/bin", see="false"),
            "made without --system-site-packages",
            "/usr/bin/python3 -m venv --clear --system-site-packages /opt/zfsiscsi",
        ),
        (SETTINGS.format(home="/root/.pyenv/bin", see="true"), "/root/.pyenv/bin", "venv --clear"),
        (SETTINGS.format(home="/usr/bin", see="true"), "can't be imported", "-c 'import libzfs"),
        ("", "--system-site-packages", "venv --clear"),
        (None, "another Python", "deploy/install"),
    ],
    ids=["hides", "other", "broken", "empty", "no-venv"],
)
def test_not_seen(server: Server, settings: str | None, what: str, fix: str) -> None:
    hide(server, "libzfs_core")
    if settings is not None:
        server.write("opt/zfsiscsi/pyvenv.cfg", settings)
    one = server.problem(check_python)
    assert one.level == "error"
    assert what in one.what
    assert fix in one.fix
