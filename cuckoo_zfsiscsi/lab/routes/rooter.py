"""CAPE's rooter, which makes rules of CAPE's commands: the real one, or ours in its place."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import HANG, last_words
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.network import Namespace

ACCEPTED, REJECTED = "CAPE_ACCEPTED_SEGMENTS", "CAPE_REJECTED_SEGMENTS"
"""Chains of CAPE's, through which all forwarded packets go."""
COMMENT = ("-m", "comment", "--comment", "CAPE-rooter")
SERVICES = (
    "7,9,13,17,19,21,22,25,37,69,79,80,110,113",
    "123,443,465,514,990,995,6667",
)
"""Ports of INetSim's services; iptables takes 15 in one rule."""


class Rooter(Protocol):
    """Obeys CAPE's commands on its server."""

    def start(self) -> None:
        """Begin.

        Raises:
            LabError, DeadlineExceededError: it does not.
        """
        ...

    def call(self, command: str, *arguments: str) -> None:
        """Do one command.

        Raises:
            LabError: it can't.
        """
        ...

    def stop(self) -> None:
        """End. May be called again."""
        ...


class RealRooter:
    """CAPE's own utils/rooter.py, asked over its socket as CAPE does.

    Args:
        root: a checkout of CAPE.
        python: an interpreter of 3.10 or later.
        at: directory of the lab.
        server: CAPE's.
    """

    def __init__(self, root: Path, python: Path, at: Path, server: Namespace) -> None:
        self._script = root / "utils/rooter.py"
        self._server = server
        self._socket = at / "rooter.sock"
        argv = [*server.prefix, str(python), str(self._script), str(self._socket)]
        self._daemon = Logged(
            [*argv, "--group", "root", "--systemctl", "/bin/true"],
            at / "rooter.log",
            at / "rooter.pid",
            name="CAPE's rooter",
        )

    def start(self) -> None:
        """As Rooter.start()."""
        if not self._script.is_file():
            fix = "set CAPE_ROOT to a checkout of CAPE, or unset it"
            raise LabError(f"there is no {self._script}", fix=fix)
        # It makes its chains only where iptables has been used before, as it has on a real server
        self._server.run(["iptables", "-w", "-P", "FORWARD", "DROP"])
        self._daemon.start(Deadline(HANG), self._socket.exists)

    def call(self, command: str, *arguments: str) -> None:
        """As Rooter.call()."""
        with tempfile.TemporaryDirectory() as folder, _peer(Path(folder) / "peer") as peer:
            try:
                peer.connect(str(self._socket))
                request = {"command": command, "args": arguments, "kwargs": {}}
                peer.send(json.dumps(request).encode())
                problem = json.loads(peer.recv(1 << 16))["exception"]
            except (OSError, ValueError, KeyError) as error:
                problem = f"{type(error).__name__}: {error}"
        if problem:
            log = last_words(self._socket.with_name("rooter.log"))
            raise LabError(f"CAPE's rooter, told {command}: {problem}; its log: {log}")

    def stop(self) -> None:
        """As Rooter.stop()."""
        self._daemon.stop(Deadline(30.0))


def _peer(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.settimeout(HANG)
    peer.bind(str(path))
    return peer


@dataclass(frozen=True)
class Rule:
    """One rule of iptables."""

    chain: str
    words: str
    """What it matches and does."""
    table: str = "filter"
    is_first: bool = False
    """It goes before the chain's other rules."""

    def add(self) -> list[str]:
        """Return the call of iptables that adds it."""
        return self._argv("-I" if self.is_first else "-A")

    def delete(self) -> list[str]:
        """Return the call of iptables that deletes it."""
        return self._argv("-D")

    def _argv(self, way: str) -> list[str]:
        argv = ["iptables", "-w", "-t", self.table, way, self.chain, *self.words.split()]
        return [*argv, *COMMENT]


class Iptables:
    """Implements Rooter by the same rules, for who has no CAPE.

    Args:
        server: CAPE's.
    """

    def __init__(self, server: Namespace) -> None:
        self._server = server

    def start(self) -> None:
        """As Rooter.start(): nothing goes on between two commands."""

    def call(self, command: str, *arguments: str) -> None:
        """As Rooter.call()."""
        for argv in commands(command, *arguments):
            self._server.run(argv)

    def stop(self) -> None:
        """As Rooter.stop(): the rules go with the namespace."""


def commands(command: str, *arguments: str) -> list[list[str]]:
    """Return the programs that CAPE's rooter runs for a command, as far as the lab gives it.

    Raises:
        LabError: it never does.
    """
    name, _, way = command.rpartition("_")
    if command in ONCE:
        return ONCE[command](*arguments)
    if name == "srcroute":
        table, host = arguments
        verb = {"enable": "add", "disable": "del"}[way]
        return [["ip", "rule", verb, "from", host, "table", table]]
    if name not in RULES or way not in ("enable", "disable"):
        raise LabError(f"the lab's rooter knows no {command}")
    rules = RULES[name](*arguments)
    return [rule.add() if way == "enable" else rule.delete() for rule in rules]


def _clean() -> list[list[str]]:
    chains = (REJECTED, ACCEPTED)
    return [
        *(["iptables", "-w", "-N", chain] for chain in chains),
        *(Rule("FORWARD", f"-j {chain}", is_first=True).add() for chain in chains),
    ]


def _state() -> list[list[str]]:
    known = "-m state --state ESTABLISHED,RELATED -j ACCEPT"
    return [Rule("INPUT", known).add(), Rule(ACCEPTED, known, is_first=True).add()]


def _nat(line: str) -> list[list[str]]:
    return [Rule("POSTROUTING", f"-o {line} -j MASQUERADE", "nat").add()]


def _drop(host: str, result_port: str) -> list[Rule]:
    agent, results = "-p tcp --dport 8000 -j ACCEPT", f"-p tcp --sport {result_port} -j ACCEPT"
    syn = f"--source {host} -p tcp --syn --dport {result_port} -j ACCEPT"
    return [
        Rule("PREROUTING", syn, "nat", is_first=True),
        *(Rule(chain, f"--destination {host} {what}")
          for chain in ("INPUT", "OUTPUT") for what in (agent, results)),
        Rule("OUTPUT", f"--destination {host} -j DROP"),
    ]  # fmt: skip


def _forward(hosts: str, line: str, host: str) -> list[Rule]:
    return [Rule(ACCEPTED, f"-i {hosts} -o {line} --source {host} -j ACCEPT", is_first=True)]


def _inetsim(
    host: str, server: str, dns_port: str, result_port: str, _ports: str = ""
) -> list[Rule]:
    def to(matches: str, target: str) -> Rule:
        words = f"--source {host} {matches} -j DNAT --to-destination {target}"
        return Rule("PREROUTING", words, "nat")

    services = [
        to(f"-p {protocol} -m multiport --dports {ports}", server)
        for protocol in ("tcp", "udp")
        for ports in SERVICES
    ]
    names = [to(f"-p {protocol} --dport 53", f"{server}:{dns_port}") for protocol in ("tcp", "udp")]
    rest = [
        to(f"-p tcp -m tcp --syn ! --dport {result_port}", f"{server}:1"),
        to(f"-p udp ! --dport {result_port}", f"{server}:1"),
        to("-p icmp --icmp-type any", f"{server}:1"),
    ]
    return [
        *services,
        *names,
        *rest,
        Rule("INPUT", f"--source {host} -p tcp -m tcp --dport 22 -j DROP"),
        Rule("OUTPUT", "-m conntrack --ctstate INVALID -j DROP"),
        Rule("OUTPUT", "-m state --state INVALID -j DROP"),
        Rule("OUTPUT", f"--source {host} -j DROP"),
    ]


ONCE: dict[str, Callable[..., list[list[str]]]] = {
    "cleanup_rooter": _clean,
    "forward_drop": lambda: [["iptables", "-w", "-P", "FORWARD", "DROP"]],
    "state_enable": _state,
    "enable_nat": _nat,
}
"""At CAPE's start."""
RULES: dict[str, Callable[..., list[Rule]]] = {
    "drop": _drop,
    "forward": _forward,
    "inetsim": _inetsim,
}
"""For one run: NAME_enable adds them, NAME_disable deletes them."""
