"""Tells a running system its gateway and name servers through CAPE's agent (network_via = agent).

None of it stays: the disk is reset before the next boot.
"""

from __future__ import annotations

import base64
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.config.default_route import DefaultRoute
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.readiness import agent
from cuckoo_zfsiscsi.readiness.stream import GuestError

DONE = "the default route is set"
"""What a command prints when all of it is so: the agent tells no exit status."""
FIX = {
    "linux": "run CAPE's agent as root, with the guest's own name in its /etc/hosts",
    "windows": "run CAPE's agent with the highest privileges",
}


def by_agent(host: HostConfig, default_route: DefaultRoute, deadline: Deadline) -> str:
    """Set both in the host's system; return what went wrong, with the cure, or nothing.

    Args:
        host: whose agent answers.
        default_route: what to set; nothing is asked of the agent if it is empty.
        deadline: for the agent's answer.

    Raises:
        CancelledError: given up.
    """
    argv = command(host.platform, host.ip, default_route)
    if not argv:
        return ""
    try:
        output = agent.execute(str(host.ip), host.agent_port, argv, deadline=deadline)
    except GuestError as error:
        wrong = f"its agent: {error}"
    except DeadlineExceededError as error:
        wrong = error.what
    else:
        said = output.stdout.strip() or output.stderr.strip()
        if output.stdout.strip().endswith(DONE):
            return ""
        wrong = f"it says {said[-200:]!r}"
    return (
        f"{host.label} was not told gateway and name servers: {wrong} "
        f"(fix: {FIX[host.platform]}; see docs/routes.rst)"
    )


def command(platform: str, ip: IPv4Address, default_route: DefaultRoute) -> list[str]:
    """Return the program and arguments that set both, and print DONE then; empty: nothing to set.

    Args:
        platform: windows or linux.
        ip: the host's address, for Windows to find its card by.
        default_route: what to set.
    """
    if not (default_route.gateway or default_route.dns):
        return []
    if platform == "linux":
        return ["sh", "-c", _for_linux(default_route)]
    script = base64.b64encode(_for_windows(ip, default_route).encode("utf-16-le")).decode()
    return ["powershell", "-NoProfile", "-NonInteractive", "-EncodedCommand", script]


def _for_linux(default_route: DefaultRoute) -> str:
    """Return a script for sh.

    A plain resolv.conf takes the place of a link: systemd-resolved, too, goes by such a file.
    """
    lines = ["set -e", "PATH=$PATH:/usr/sbin:/sbin"]
    if default_route.gateway:
        lines.append(f"ip route replace default via {default_route.gateway}")
    if default_route.dns:
        servers = " ".join(map(str, default_route.dns))
        lines += [
            "[ ! -L /etc/resolv.conf ] || rm /etc/resolv.conf",
            f"printf 'nameserver %s\\n' {servers} >/etc/resolv.conf",
        ]
    return "\n".join([*lines, f"echo {DONE}"])


def _for_windows(ip: IPv4Address, default_route: DefaultRoute) -> str:
    """Return a script for PowerShell.

    route and WMI, as Windows 7 has no module NetTCPIP. It looks at what is set in the end, as route
    says in the system's own language whether it has done it.
    """
    find = (
        "Get-WmiObject Win32_NetworkAdapterConfiguration -Filter 'IPEnabled=TRUE' | "
        f"Where-Object {{ $_.IPAddress -contains '{ip}' }}"
    )
    lines = [
        "$ErrorActionPreference = 'Stop'",
        'trap { Write-Output "$_"; exit 1 }',  # as text: PowerShell's errors are XML here
        f"$card = {find}",
        f"if (-not $card) {{ throw 'no card has {ip}' }}",
    ]
    if gateway := default_route.gateway:
        lines += [
            f"route add 0.0.0.0 mask 0.0.0.0 {gateway} metric 1 if $card.InterfaceIndex | Out-Null",
            "$routes = Get-WmiObject Win32_IP4RouteTable -Filter \"Destination='0.0.0.0'\"",
            f"if (-not ($routes | Where-Object {{ $_.NextHop -eq '{gateway}' }})) "
            f"{{ throw 'no route by {gateway}' }}",
        ]
    if default_route.dns:
        servers = ",".join(f"'{server}'" for server in default_route.dns)
        lines += [
            f"$done = $card.SetDNSServerSearchOrder(@({servers}))",
            'if ($done.ReturnValue -gt 1) { throw "name servers: error $($done.ReturnValue)" }',
        ]
    return "\n".join([*lines, f"Write-Output '{DONE}'"])
