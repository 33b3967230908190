"""CAPE's rooter: the real one of the checkout in CAPE_ROOT, else the commands that it runs.

These were read in utils/rooter.py, one after the other: what matters is which rules it appends and
which it inserts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.netboot.network import inside
from tests.waiting import HANG, wait

TAG = ("-m", "comment", "--comment", "CAPE-rooter")
SEGMENTS = ("CAPE_ACCEPTED_SEGMENTS", "CAPE_REJECTED_SEGMENTS")
STATES = "-m state --state ESTABLISHED,RELATED -j ACCEPT"


class Rooter:
    """On the server in this namespace. Call it as CAPE does: a command and its arguments."""

    def __init__(self, namespace: Path, at: Path) -> None:
        self._namespace = namespace
        self._at = at
        self._process: subprocess.Popen[bytes] | None = None
        if root := os.environ.get("CAPE_ROOT"):
            self._start(Path(root))

    def __call__(self, command: str, *args: str) -> None:
        if self._process:
            self._ask(command, args)
            return
        if command == "cleanup_rooter":
            self._clean()
        for line in RULES[command](*args):
            self.run("iptables", *line.split(), *TAG)

    def start_cape(self, wan: str) -> None:
        """Run what CAPE's scheduler runs as it starts (core/startup.py)."""
        self.run("iptables", "-P", "INPUT", "ACCEPT")  # the rooter needs a table to begin with
        for command in ("cleanup_rooter", "forward_drop", "state_disable", "state_enable"):
            self(command)
        self("disable_nat", wan)
        self("enable_nat", wan)

    def run(self, *words: str, stdin: str = "") -> str:
        """Run a command on its server; its failure is ignored, as the rooter does."""
        with inside(self._namespace):
            return subprocess.run(
                words, check=False, capture_output=True, text=True, timeout=HANG, input=stdin
            ).stdout

    def close(self) -> None:
        if process := self._process:
            process.terminate()  # it cleans up
            process.wait(HANG)

    def _clean(self) -> None:
        saved = self.run("iptables-save")
        kept = "\n".join(line for line in saved.split("\n") if line and "CAPE-rooter" not in line)
        self.run("iptables-restore", stdin=kept + "\n")

    def _start(self, root: Path) -> None:
        self._socket = self._at / "rooter"
        program = [sys.executable, str(root / "utils" / "rooter.py"), "--group", "root"]
        with inside(self._namespace):
            self._process = subprocess.Popen(
                [*program, "--systemctl", "/bin/true", str(self._socket)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        wait(self._socket.is_socket, what="the rooter's socket")

    def _ask(self, command: str, args: tuple[str, ...]) -> None:
        own = self._at / "asking"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.bind(str(own))
            asking.settimeout(HANG)
            asking.sendto(
                json.dumps({"command": command, "args": args}).encode(), str(self._socket)
            )
            answer = json.loads(asking.recv(65536))
        own.unlink()
        assert answer["exception"] is None, answer


def _state(action: str) -> list[str]:
    return [f"-{action} INPUT {STATES}", f"-{'I' if action == 'A' else 'D'} {SEGMENTS[0]} {STATES}"]


def _drop(append: str, insert: str, ip: str, port: str) -> list[str]:
    return [
        f"-t nat -{insert} PREROUTING --source {ip} -p tcp --syn --dport {port} -j ACCEPT",
        f"-{append} INPUT --destination {ip} -p tcp --dport 8000 -j ACCEPT",
        f"-{append} INPUT --destination {ip} -p tcp --sport {port} -j ACCEPT",
        f"-{append} OUTPUT --destination {ip} -p tcp --dport 8000 -j ACCEPT",
        f"-{append} OUTPUT --destination {ip} -p tcp --sport {port} -j ACCEPT",
        f"-{append} OUTPUT --destination {ip} -j DROP",
    ]


def _inetsim(action: str, ip: str, server: str, dns: str, port: str, ports: str) -> list[str]:
    nat = f"-t nat -{action} PREROUTING"
    to = "-j DNAT --to-destination"
    known = ("7,9,13,17,19,21,22,25,37,69,79,80,110,113", "123,443,465,514,990,995,6667")
    pairs = [pair.split(":") for pair in ports.split()]
    return [
        *(f"{nat} --source {ip} -p tcp --syn --dport {a} {to} {server}:{b}" for a, b in pairs),
        *(
            f"{nat} --source {ip} -p {kind} -m multiport --dports {some} {to} {server}"
            for kind in ("tcp", "udp")
            for some in known
        ),
        f"{nat} -p tcp --dport 53 --source {ip} {to} {server}:{dns}",
        f"{nat} -p udp --dport 53 --source {ip} {to} {server}:{dns}",
        f"{nat} --source {ip} -p tcp -m tcp --syn ! --dport {port} {to} {server}:1",
        f"{nat} --source {ip} -p udp ! --dport {port} {to} {server}:1",
        f"{nat} --source {ip} -p icmp --icmp-type any {to} {server}:1",
        f"-{action} INPUT --source {ip} -p tcp -m tcp --dport 22 -j DROP",
        f"-{action} OUTPUT -m conntrack --ctstate INVALID -j DROP",
        f"-{action} OUTPUT -m state --state INVALID -j DROP",
        f"-{action} OUTPUT --source {ip} -j DROP",
    ]


def _socks5(action: str, ip: str, port: str, dns: str, proxy: str) -> list[str]:
    nat = f"-t nat -{action} PREROUTING"
    first = "-t nat -I PREROUTING" if action == "A" else nat
    one, two = ("-I OUTPUT 1", "-I OUTPUT 2") if action == "A" else ("-D OUTPUT", "-D OUTPUT")
    to = "-j REDIRECT --to-ports"
    return [
        f"{first} --source {ip} -p tcp --syn ! --dport {port} {to} {proxy}",
        f"{one} -m conntrack --ctstate INVALID -j DROP",
        f"{two} -m state --state INVALID -j DROP",
        f"{nat} -p tcp --dport 53 --source {ip} {to} {dns}",
        f"{nat} -p udp --dport 53 --source {ip} {to} {dns}",
        f"-{action} OUTPUT --source {ip} -j DROP",
    ]


def _tunnel(action: str, ip: str, out: str) -> list[str]:
    return [
        f"-t nat -{action} POSTROUTING --source {ip} -o {out} -j MASQUERADE",
        f"-t filter -{action} FORWARD --source {ip} -o {out} -j ACCEPT",
    ]


def _forward(action: str, src: str, dst: str, ip: str) -> str:
    return f"-{action} {SEGMENTS[0]} -i {src} -o {dst} --source {ip} -j ACCEPT"


RULES: dict[str, Callable[..., list[str]]] = {
    "cleanup_rooter": lambda: [
        *(f"-{action} {name}" for action in "FN" for name in SEGMENTS),
        *(f"-I FORWARD -j {name}" for name in reversed(SEGMENTS)),
    ],
    "forward_drop": lambda: ["-P FORWARD DROP"],
    "state_enable": lambda: _state("A"),
    "state_disable": lambda: _state("D"),
    "enable_nat": lambda out: [f"-t nat -A POSTROUTING -o {out} -j MASQUERADE"],
    "disable_nat": lambda out: [f"-t nat -D POSTROUTING -o {out} -j MASQUERADE"],
    "forward_enable": lambda src, dst, ip: [
        f"-D FORWARD -i {src} -j REJECT",
        f"-D FORWARD -o {src} -j REJECT",
        _forward("I", src, dst, ip),
    ],
    "forward_disable": lambda src, dst, ip: [_forward("D", src, dst, ip)],
    "drop_enable": lambda ip, port: _drop("A", "I", ip, port),
    "drop_disable": lambda ip, port: _drop("D", "D", ip, port),
    "inetsim_enable": lambda *args: _inetsim("A", *args),
    "inetsim_disable": lambda *args: _inetsim("D", *args),
    "socks5_enable": lambda *args: _socks5("A", *args),
    "socks5_disable": lambda *args: _socks5("D", *args),
    "interface_route_tun_enable": lambda ip, out, _task: _tunnel("I", ip, out),
    "interface_route_tun_disable": lambda ip, out, _task: _tunnel("D", ip, out),
}
"""What follows the word iptables, by the rooter's command."""


@contextlib.contextmanager
def opened(rooter: Rooter, command: str, *args: str) -> Iterator[None]:
    """Open a way for a run, and close it again."""
    rooter(f"{command}_enable", *args)
    try:
        yield
    finally:
        rooter(f"{command}_disable", *args)
