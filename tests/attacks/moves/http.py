"""HTTP to the boot listener (RFC 9112)."""

from __future__ import annotations

import random
import socket
import time

from tests.attacks.infected import BRIEF, Infected
from tests.attacks.moves import primitive
from tests.netboot.network import inside

METHODS = (
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "get",
    "X" * 100,
)
PATHS = (
    "/", "/docs", "/openapi.json", "/metrics", "/v1/hosts", "/v1/hosts/pc2/reset", "/login",
    "/files/../../../etc/passwd", "/files/%2e%2e/%2e%2e/etc/passwd", "/files//etc/shadow",
    "/files/ipxe.efi", "/files/undionly.kpxe", "/install/boot.wim", "/install/../token",
    "/boot.ipxe", "/boot.ipxe?mac=", "/boot.ipxe?mac=x&mac=y", "/boot.ipxe?mac=" + "a" * 900,
)  # fmt: skip


def say(me: Infected, text: str | bytes, *, held: bool = False) -> bytes:
    """Send bytes to the boot listener; return the beginning of its answer."""
    one = me.connect(me.knows.server, me.knows.boot_port)
    try:
        one.sendall(text if isinstance(text, bytes) else text.encode())
        return b"" if held else one.recv(65536)
    finally:
        if held:
            me.hold(one)
        else:
            one.close()


def status(answer: bytes) -> str:
    return answer.split(b"\r\n")[0].decode(errors="replace")[:40]


def script_of(mac: str) -> str:
    return f"GET /boot.ipxe?mac={mac} HTTP/1.1\r\nHost: x\r\n\r\n"


@primitive("http.own-script")
def own_script(me: Infected, dice: random.Random) -> str:
    """Ask for its own boot script again, while its session goes on."""
    return status(say(me, script_of(me.own.mac)))


@primitive("http.script-of")
def others_script(me: Infected, dice: random.Random) -> str:
    """Ask for a sibling's boot script, from its own address."""
    answer = say(me, script_of(me.victim(dice).mac))
    assert b"sanboot" not in answer, answer
    return status(answer)


@primitive("http.paths")
def paths(me: Infected, dice: random.Random) -> str:
    """Ask for what is not there, and for what is not for it."""
    method = dice.choice(("GET", "GET", *METHODS))
    answer = say(me, f"{method} {dice.choice(PATHS)} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"root:" not in answer, answer
    return status(answer)


@primitive("http.half")
def half(me: Infected, dice: random.Random) -> str:
    """Send half a request, and keep the connection."""
    text = script_of(me.own.mac)
    count = dice.randrange(1, 20)
    for _ in range(count):
        say(me, text[: dice.randrange(len(text))], held=True)
    return f"{count} connections"


@primitive("http.smuggle")
def smuggle(me: Infected, dice: random.Random) -> str:
    """Hide a request in another: two lengths, a length and chunks, spaces, a bare line feed."""
    inner = f"GET /boot.ipxe?mac={me.victim(dice).mac} HTTP/1.1\r\nHost: x\r\n\r\n"
    heads = (
        "Content-Length: 0\r\nContent-Length: 90",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked", "Content-Length: +5", "X: y\n\n",
        "X-Forwarded-For: 127.0.0.1", f"X-Forwarded-For: {me.victim(dice).ip}",
    )  # fmt: skip
    head = f"POST /boot.ipxe HTTP/1.1\r\nHost: x\r\n{dice.choice(heads)}\r\n\r\n0\r\n\r\n"
    answer = say(me, head + inner)
    assert b"sanboot" not in answer, answer
    return status(answer)


@primitive("http.large")
def large(me: Infected, dice: random.Random) -> str:
    """Send a header, a number of headers, or a body without an end."""
    text = dice.choice(("X: " + "a" * 100_000, "X: y\r\n" * 5000, "\r\n" + "b" * 200_000))
    return status(say(me, f"GET / HTTP/1.1\r\nHost: x\r\n{text}"))


@primitive("http.many")
def many(me: Infected, dice: random.Random) -> str:
    """Open connections without a word, and keep them."""
    count = dice.randrange(10, 80)
    for _ in range(count):
        me.hold(me.connect(me.knows.server, me.knows.boot_port))
    return f"{count} connections"


@primitive("http.slow")
def slow(me: Infected, dice: random.Random) -> str:
    """Send a request byte by byte."""
    with me.connect(me.knows.server, me.knows.boot_port) as one:
        for byte in script_of(me.own.mac)[: dice.randrange(5, 30)]:
            one.sendall(byte.encode())
            time.sleep(0.03)
    return ""


@primitive("http.unread")
def unread(me: Infected, dice: random.Random) -> str:
    """Ask for the largest file again and again, and read nothing."""
    one = me.connect(me.knows.server, me.knows.boot_port)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.sendall(b"GET /files/ipxe.efi HTTP/1.1\r\nHost: x\r\n\r\n" * dice.randrange(1, 50))
    me.hold(one)
    return ""


@primitive("http.nonsense")
def nonsense(me: Infected, dice: random.Random) -> str:
    """Speak TLS, HTTP/2, PROXY, or nothing that anyone knows."""
    text = dice.choice((
        bytes.fromhex("16030100c8010000c40303") + dice.randbytes(190),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + dice.randbytes(9),
        f"PROXY TCP4 {me.victim(dice).ip} {me.knows.server} 1 2\r\n".encode()
        + script_of(me.victim(dice).mac).encode(),
        dice.randbytes(dice.randrange(1, 4000)),
    ))  # fmt: skip
    answer = say(me, text)
    assert b"sanboot" not in answer, answer
    return status(answer)


@primitive("http.addresses")
def addresses(me: Infected, dice: random.Random) -> str:
    """Connect from addresses of nobody: a share for each of them would fill what is for all."""
    net = me.own.ip.rpartition(".")[0]
    mine = [f"{net}.{last}" for last in dice.sample(range(100, 250), 8)]
    refused = 0
    with me.second_card(made_up_mac(dice), *mine) as where, inside(where):
        for source in mine:
            try:
                me.hold(me.connect(me.knows.server, me.knows.boot_port, source=source))
            except TimeoutError:  # dropped, and so will be the others
                return f"{source} is dropped"
            except OSError:
                refused += 1
        time.sleep(BRIEF)
    return f"{refused} of {len(mine)} refused"


def made_up_mac(dice: random.Random) -> str:
    return ":".join(f"{byte:02x}" for byte in (2, *dice.randbytes(5)))
