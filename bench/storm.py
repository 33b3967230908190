"""A power failure ends: all hosts boot at once.

    .venv/bin/python -m bench.storm [--mode first,reboot,start] [--hosts 200] [--unknown 20]
                                  [--running 10] [--json]

The kernel is set as deploy/install sets it. The service, dnsmasq and tgtd are real, the hosts are
network cards (macvlan) of one namespace, each with its own MAC and IP address. Every card sends
three DHCP requests as iPXE does, and asks for its boot script; so do cards that no host has, and
guests that run (they hold a connection to the portal). An answer's time is that from the request to
its last byte. Needs root.

Modes:  first   reset_on = boot, nobody has booted yet: each clean disk is armed ahead
        reboot  reset_on = boot, all have booted and were cut off in the middle: each disk is reset
                now, once, and who has to wait for it is told so, in time, and asks again
        start   reset_on = start, all are booting (prewarmed): the armed script, nothing is reset
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, get_args

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.config.portal import port_of
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.network import BRIDGE, SERVER, Network, host_address
from cuckoo_zfsiscsi.service.paper_boot import LOGIN
from tests.faults.conf import HEAD
from tests.faults.patience import SERVICE

Mode = Literal["first", "reboot", "start"]

PORT, PORTAL_PORT = 8471, 3260
SO_BINDTODEVICE = 25
SO_RCVBUFFORCE = 33
TCP_REPAIR = 19
FLAGS = 14 + 20 + 8 + 10
"""Where a frame has the flags of DHCP (RFC 2131)."""
TIMES = 3
"""That each card asks for an address."""
REPEAT = 1.0
"""Seconds after which iPXE asks DHCP again."""
IMAGE_SIZE = 1 << 20
SYSCTL = Path(__file__).parents[1] / "deploy/sysctl.conf"
START = 240.0
"""Seconds for all hosts to become ready for a storm, and for a storm."""
LIMIT = 0.5
"""Seconds in which 99 of 100 scripts must be answered."""
HOST = """
[pc{number}]
label = pc{number}
platform = linux
arch = x64
ip = {ip}
snapshot = golden
mac = {mac}
"""
RESET_ON: dict[Mode, str] = {
    "first": "reset_on = boot\n",
    "reboot": "reset_on = boot\n",
    "start": """\
reset_on = start
prewarm = yes
power = command://{at}/relay?args={at}/pc{number}.on
power_interval = 0
boot_timeout = 600
post_time = 0
""",
}
RELAY = """\
#!/bin/sh
case $2 in
    on) : >"$1" ;;
    off) rm -f "$1" ;;
    *) test -e "$1" && echo on || echo off ;;
esac
"""
"""Switches nothing, and says that it did."""


@dataclass(frozen=True)
class Answer:
    """To one request for a boot script."""

    number: int
    seconds: float
    script: str
    at: float
    """Monotonic seconds."""

    @property
    def is_script(self) -> bool:
        """Whether it is a script that boots."""
        return "sanboot" in self.script

    @property
    def is_wait(self) -> bool:
        """Whether it says that the disk is being made ready."""
        return bool(self.script) and not self.is_script

    @property
    def pause(self) -> int:
        """Seconds to wait, in a script that says so."""
        return int(re.findall(r"^sleep (\d+)", self.script, re.M)[0])


@dataclass
class Result:
    """What the storm showed."""

    mode: Mode
    hosts: int
    unknown: int
    running: int
    offered: int
    """Hosts, of those that do not run, that got an address."""
    offered_unknown: int
    scripts: int
    """Answers with a script: one for each host that does not run."""
    wrong: int
    """Scripts of another host."""
    scripts_unknown: int
    """Answered with a script, of the unknown and of those that run: none."""
    resets: int
    """Of all hosts: in the mode reboot one for each that does not run, else none."""
    told_to_wait: int
    """Answers that said that the disk is being made ready; their times count, too."""
    p50_ms: float
    p99_ms: float
    most_ms: float
    seconds: float
    """From the first request to the last answer."""

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        boot = self.hosts - self.running
        wanted = {
            "offered": boot, "offered_unknown": 0, "wrong": 0,
            "scripts": boot, "scripts_unknown": 0,
            "resets": boot if self.mode == "reboot" else 0,
        }  # fmt: skip
        found = [
            f"{name} is {getattr(self, name)}, not {value}"
            for name, value in wanted.items()
            if getattr(self, name) != value
        ]
        if self.p99_ms >= 1000 * LIMIT:
            found.append(f"p99 is {self.p99_ms:.0f} ms")
        return found


def mac_of(number: int) -> str:
    """Return the MAC address of host 1, 2, ..."""
    return f"52:54:00:99:{number >> 8:02x}:{number & 255:02x}"


@contextmanager
def kernel_set() -> Iterator[None]:
    """Have the kernel set as deploy/install sets it: for all of this machine."""
    keys = re.findall(r"^(\S+) = ", SYSCTL.read_text(), re.M)
    before = {key: Path("/proc/sys", *key.split(".")).read_text() for key in keys}
    subprocess.run(["sysctl", "-qp", str(SYSCTL)], check=True)
    try:
        yield
    finally:
        for key, value in before.items():
            Path("/proc/sys", *key.split(".")).write_text(value)


class Storm:
    """A network with a service for so many hosts.

    Args:
        at: an empty directory.
        hosts: how many are configured.
        unknown: cards of nobody.
        mode: what the hosts did before.
    """

    def __init__(self, at: Path, hosts: int, unknown: int, mode: Mode) -> None:
        self.at, self.hosts, self.unknown, self.mode = at, hosts, unknown, mode
        self.network = Network(f"zfsiscsi-storm-{os.getpid()}", hosts=0)
        self.cards = f"{self.network.name}-cards"
        self.client = Client(f"unix://{at}/api.sock")
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Storm:
        try:
            self.network.up()
            self._plug_in()
            self._switch("down")  # who answers lives, and would not be believed to be off
            self._start()
            self._switch("up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End and remove everything."""
        if self._service and self._service.poll() is None:
            self._switch("down")
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(60)
        subprocess.run(["ip", "netns", "delete", self.cards], check=False)
        self.network.down()
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

    def _plug_in(self) -> None:
        subprocess.run(["ip", "netns", "add", self.cards], check=True)
        for command in (
            f"link add cards type veth peer name wire netns {self.cards}",
            f"link set cards master {BRIDGE} up",
        ):
            self.network.run(["ip", *command.split()])
        batch = ["link set wire up", "link set lo up"]
        for number in range(1, self.hosts + self.unknown + 1):
            name = f"nic{number}"
            batch += [
                f"link add {name} link wire address {mac_of(number)} type macvlan mode private",
                f"addr add {host_address(number)}/24 dev {name}",
            ]
        # Each card answers for its own address alone
        keys = ["ipv4.conf.all.arp_ignore=1", "ipv4.conf.all.arp_announce=2"]
        keys += ["ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0"]
        keys += ["ipv6.conf.default.disable_ipv6=1"]
        inside = ["nsenter", f"--net=/run/netns/{self.cards}", "--"]
        subprocess.run([*inside, "sysctl", "-qw", *(f"net.{key}" for key in keys)], check=True)
        self._ip(batch)

    def _switch(self, state: Literal["up", "down"]) -> None:
        """Switch all cards."""
        numbers = range(1, self.hosts + self.unknown + 1)
        self._ip([f"link set nic{number} {state}" for number in numbers])

    def _ip(self, batch: list[str]) -> None:
        argv = ["ip", "-n", self.cards, "-batch", "-"]
        subprocess.run(argv, input="\n".join(batch).encode(), check=True)

    def _start(self) -> None:
        numbers = range(1, self.hosts + 1)
        labels = ",".join(f"pc{number}" for number in numbers)
        patience = {"start_timeout": SERVICE, "stop_timeout": SERVICE}
        text = HEAD.format(labels=labels, bridge=BRIDGE, at=self.at, server=SERVER.ip, **patience)
        for number in numbers:
            text += HOST.format(number=number, ip=host_address(number), mac=mac_of(number))
            text += RESET_ON[self.mode].format(at=self.at, number=number)
        (self.at / "relay").write_text(RELAY)
        (self.at / "relay").chmod(0o755)
        (self.at / "zfsiscsi.conf").write_text(text)
        golden = self.at / "golden.raw"
        golden.write_bytes(os.urandom(IMAGE_SIZE))
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        argv += ["--conf", str(self.at / "zfsiscsi.conf")]
        subprocess.run([*argv, "image", "import", "golden", str(golden)], check=True)
        with (self.at / "service.log").open("ab") as log:
            self._service = subprocess.Popen([*argv, "serve"], stdout=log, stderr=log)
        end = time.monotonic() + START
        while not self._is_quiet():
            if time.monotonic() > end:
                raise TimeoutError(f"not all hosts are as they should be: {self.at}/service.log")
            time.sleep(1.0)

    def _is_quiet(self) -> bool:
        """Tell whether each host is armed, and has a spare where it needs one."""
        try:
            hosts = self.client.hosts()
        except ZfsIscsiError:
            return False
        if self.mode == "start":
            boots = [host["last_boot"] for host in hosts if host["state"] == "booting"]
            return sum(bool(boot and "power" in boot["stages"]) for boot in boots) == self.hosts
        disks = len(list((self.at / "store" / "disks").glob("*/*.raw")))
        calm = all(host["state"] == "clean" and not host["step"] for host in hosts)
        return calm and disks >= 2 * self.hosts

    def generations(self) -> int:
        """Return the sum of the generations of all hosts' disks: it grows by 1 with each reset."""
        end = time.monotonic() + START
        while True:
            found = [host["generation"] for host in self.client.hosts()]
            if None not in found:  # else one is being reset
                return sum(found)
            if time.monotonic() > end:
                raise TimeoutError(f"a reset does not end: {self.at}/service.log")
            time.sleep(0.5)

    def run(self, running: int) -> Result:
        """Let it break loose.

        Args:
            running: hosts that have booted before, and run.
        """
        before = self.generations()
        words = [str(word) for word in (self.hosts, self.unknown, running, self.mode)]
        argv = ["nsenter", f"--net=/run/netns/{self.cards}", "--", sys.executable]
        argv += ["-m", "bench.storm", "--be-the-cards", *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=START)
        seen: dict[str, Any] = json.loads(done.stdout)
        resets = self.generations() - before
        return Result(self.mode, self.hosts, self.unknown, running, resets=resets, **seen)


async def ask(number: int) -> tuple[float, str]:
    """Ask for the script of a card, through it.

    Return the seconds from the request, sent whole, to the last byte of the answer, and the script,
    or "" if it is refused.
    """
    loop = asyncio.get_running_loop()
    with await connect(number, PORT) as wire:
        request = f"GET /boot.ipxe?mac={mac_of(number)} HTTP/1.0\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(wire, request.encode())
        begin, answer = time.monotonic(), b""
        with contextlib.suppress(ConnectionError):  # a stranger's is dropped
            while piece := await loop.sock_recv(wire, 1 << 16):
                answer += piece
        seconds = time.monotonic() - begin
    head, _, body = answer.partition(b"\r\n\r\n")
    return seconds, body.decode() if b" 200 " in head.partition(b"\r\n")[0] else ""


async def ask_again(number: int) -> list[Answer]:
    """Ask as iPXE does: again when told to, until there is a script or a refusal."""
    found = []
    while True:
        seconds, script = await ask(number)
        found.append(Answer(number, seconds, script, time.monotonic()))
        if not found[-1].is_wait:
            return found
        await asyncio.sleep(found[-1].pause)


def portal_port(number: int) -> int:
    """Return the port of host 1, 2, ..., where it alone logs in."""
    return port_of(host_address(number), SERVER, PORTAL_PORT)


async def connect(number: int, port: int) -> socket.socket:
    """Connect to the server through a card."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    wire.setblocking(False)
    wire.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, f"nic{number}".encode() + b"\0")
    wire.bind((str(host_address(number)), 0))
    await asyncio.get_running_loop().sock_connect(wire, (str(SERVER.ip), port))
    return wire


def offers(wire: socket.socket) -> set[bytes]:
    """Return the cards to which offers have come so far."""
    found = set()
    try:
        while frame := wire.recv(2048):
            if frame[23] == socket.IPPROTO_UDP and frame[34:38] == b"\0\x43\0\x44":
                found.add(frame[42 + 28 : 42 + 34])
    except BlockingIOError:
        return found
    return found


def to_itself(frame: bytes) -> bytes:
    """Return a DHCP request that wants its answer for itself, not for everyone, as iPXE does."""
    return frame[:FLAGS] + b"\0\0" + frame[FLAGS + 2 :]


def vanish(wire: socket.socket) -> None:
    """Lose a connection as a machine does whose power fails: without a word (TCP_REPAIR)."""
    wire.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    wire.close()


async def boot_before(hosts: int, running: int, mode: Mode) -> list[socket.socket]:
    """Let hosts boot, before the storm; return the connections of the last ones, which run on."""
    numbers = range(1 if mode == "reboot" else hosts - running + 1, hosts + 1)
    held = []
    for number in numbers:
        await ask(number)
        held.append(await connect(number, portal_port(number)))
    if numbers:  # no login is awaited any more
        await asyncio.sleep(LOGIN + 0.5)
    gone, stay = held[: len(held) - running], held[len(held) - running :]
    for wire in gone:
        vanish(wire)
    return stay


async def cards(hosts: int, unknown: int, running: int, mode: Mode) -> dict[str, Any]:
    """Be the cards: the last ones of the hosts run already, those behind them are nobody's."""
    from tests.faults.attacker import discover

    everyone = range(1, hosts + unknown + 1)
    held = await boot_before(hosts, running, mode)
    begin = time.monotonic()
    asked = [asyncio.create_task(ask_again(number)) for number in everyone]
    got: set[bytes] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)  # it sees all, not offers alone
        wire.bind(("wire", 0x0800))
        wire.setblocking(False)
        for round_ in range(TIMES):
            await asyncio.sleep(begin + round_ * REPEAT - time.monotonic())
            for number in everyone:
                mac = bytes.fromhex(mac_of(number).replace(":", ""))
                wire.send(to_itself(discover(mac, mac)))
                await asyncio.sleep(0)
            got |= offers(wire)
        answers = [answer for task in asked for answer in await task]
        await asyncio.sleep(1.0)
        got |= offers(wire)
    for wire_held in held:
        wire_held.close()
    booting = hosts - running
    known = {bytes.fromhex(mac_of(n).replace(":", "")) for n in range(1, booting + 1)}
    nobody = {bytes.fromhex(mac_of(n).replace(":", "")) for n in range(hosts + 1, everyone.stop)}
    wanted = [answer for answer in answers if answer.number <= booting]
    times = sorted(answer.seconds for answer in wanted)
    scripts = [answer for answer in wanted if answer.is_script]
    return {
        "offered": len(got & known),
        "offered_unknown": len(got & nobody),
        "scripts": len(scripts),
        "wrong": sum(f":pc{answer.number}.g" not in answer.script for answer in scripts),
        "scripts_unknown": sum(a.is_script for a in answers if a.number > booting),
        "told_to_wait": sum(answer.is_wait for answer in wanted),
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[math.ceil(0.99 * len(times)) - 1],
        "most_ms": 1000 * times[-1],
        "seconds": max(answer.at for answer in answers) - begin,
    }


def measure(at: Path, hosts: int, unknown: int, running: int, mode: Mode) -> Result:
    """Make a storm in an empty directory, and look what it shows.

    Hosts that start are armed, whether they run or not: nobody is said to run then.
    """
    with Storm(at, hosts, unknown, mode) as storm:
        return storm.run(0 if mode == "start" else running)


def main() -> int:
    """Run; 0 if all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mode", default="first,reboot,start", help="with commas")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--unknown", type=int, default=20)
    parser.add_argument("--running", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--be-the-cards", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_the_cards:
        hosts, unknown, running, mode = options.be_the_cards
        print(json.dumps(asyncio.run(cards(int(hosts), int(unknown), int(running), mode))))
        return 0
    modes = options.mode.split(",")
    if wrong := set(modes) - set(get_args(Mode)):
        parser.error(f"no such mode: {', '.join(wrong)}")
    most = int(IPv4Address("10.99.0.254")) - int(host_address(0))
    if options.hosts + options.unknown > most:
        parser.error(f"there is room for {most} cards")
    results = []
    for mode in modes:
        with tempfile.TemporaryDirectory(prefix="zfsiscsi-storm-") as folder, kernel_set():
            sizes = (options.hosts, options.unknown, options.running)
            results.append(measure(Path(folder), *sizes, mode))
        if not options.json:
            show(results[-1])
    if options.json:
        print(json.dumps([{**asdict(one), "faults": one.faults} for one in results], indent=2))
    return any(one.faults for one in results)


def show(result: Result) -> None:
    """Print it."""
    for name, value in asdict(result).items():
        print(f"{name:16} {value:.0f}" if isinstance(value, float) else f"{name:16} {value}")
    print("\n".join(result.faults) or "as it must be", flush=True)


if __name__ == "__main__":
    sys.exit(main())
