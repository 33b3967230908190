"""What a clean guest is told to run to find out whom it reaches, and how its answer is read.

It connects to ports on which the siblings listen, and looks afterwards whether one has answered for
its own address (ARP): a firewall in the sibling's system is no isolation. By CAPE's agent, which is
Python: so there is Python on Linux; on Windows there is PowerShell.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.errors import NotReadyError

PATIENCE = 3
"""Seconds for all connections together."""
MOST = 50
"""Peers of one command: Windows' command lines end at 32,767 characters."""
LONGEST = 40
"""Characters of an answer about one peer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to reach for."""

    name: str
    ip: IPv4Address
    mac: str
    """With colons, in lower case; "": ARP is not looked at."""
    ports: tuple[int, ...]
    """Of TCP; something listens on one of them."""


def peer_of(host: HostConfig) -> Peer:
    """Return a host as a sibling reaches for it."""
    return Peer(host.label, host.ip, host.mac, (host.agent_port, host.rpc_port))


def command(platform: str, peers: Sequence[Peer]) -> list[str]:
    """Return program and arguments that reach for peers, MOST at once, and print what came.

    Args:
        platform: windows or linux.
        peers: whom to reach for.
    """
    if platform == "linux":
        told = [[one.name, str(one.ip), one.mac, one.ports] for one in peers]
        return ["python3", "-c", _LINUX, json.dumps(told), str(PATIENCE)]
    rows = ",".join(map(_row, peers))
    script = f"$peers = @({rows},$null)\n$patience = {PATIENCE}\n{_WINDOWS}"
    encoded = base64.b64encode(script.encode("utf-16-le")).decode()
    return ["powershell", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]


def _row(peer: Peer) -> str:
    """Return a peer as PowerShell has it."""
    ports = ",".join(map(str, peer.ports))
    return f"@('{peer.name}','{peer.ip}','{peer.mac.replace(':', '-')}',@({ports}))"


def parse(text: str, peers: Sequence[Peer]) -> Mapping[str, str]:
    """Return for each peer how it was reached; "" if it was not.

    Raises:
        NotReadyError: the text is not what the command prints.
    """
    try:
        said = json.loads(text.strip().splitlines()[-1])
        found = {one.name: str(said[one.name])[:LONGEST] for one in peers}
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise NotReadyError(
            f"the guest does not say whom it reached, but {text.strip()[-100:]!r}",
            fix="does its agent run commands? is python3 (Linux) or PowerShell (Windows) there?",
        ) from None
    return found


_LINUX = """\
import json, socket, sys, threading
peers, patience, out = json.loads(sys.argv[1]), float(sys.argv[2]), {}
def reach(name, ip, port):
    try:
        socket.create_connection((ip, port), patience).close()
    except ConnectionRefusedError:
        pass
    except OSError:
        return
    out[name] = "TCP %d" % port
threads = [threading.Thread(target=reach, args=(p[0], p[1], port)) for p in peers for port in p[3]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with open("/proc/net/arp") as table:
    known = {line.split()[0]: line.split()[3].lower() for line in table}
print(json.dumps({p[0]: out.get(p[0], "ARP" if p[2] and known.get(p[1]) == p[2] else "")
                  for p in peers}))
"""
_WINDOWS = """\
$ErrorActionPreference = 'Stop'
$tries = foreach ($p in $peers) { if ($p) { foreach ($port in $p[3]) {
    $client = New-Object Net.Sockets.TcpClient
    @{ name = $p[0]; port = $port; client = $client
       begun = $client.BeginConnect($p[1], $port, $null, $null) } } } }
Start-Sleep -Seconds $patience
$out = @{}
foreach ($try in $tries) {
    if ($try.begun.IsCompleted) {
        try { $try.client.EndConnect($try.begun); $out[$try.name] = "TCP $($try.port)" }
        catch { if ("$($_.Exception.InnerException.ErrorCode)" -eq '10061') {
            $out[$try.name] = "TCP $($try.port)" } } }
    $try.client.Close() }
$table = arp -a
$said = foreach ($p in $peers) { if ($p) {
    if (-not $out[$p[0]]) { $out[$p[0]] = ''
        if ($p[2] -and ($table -match ('\\\\b' + [regex]::Escape($p[1]) + '\\\\s+' + $p[2]))) {
            $out[$p[0]] = 'ARP' } }
    '"' + $p[0] + '": "' + $out[$p[0]] + '"' } }
Write-Output ('{' + ($said -join ', ') + '}')
"""
