"""The control API, and the dashboard: wherever they listen, no guest is to reach them."""

from __future__ import annotations

import random

from tests.attacks.infected import Infected
from tests.attacks.moves import primitive
from tests.attacks.moves.http import status

PATHS = (
    "/v1/hosts",
    "/v1/hosts/pc2/reset",
    "/v1/hosts/pc2/stop",
    "/metrics",
    "/",
    "/login",
    "/plugin/",
)


def ask(me: Infected, text: str, dice: random.Random, *, held: bool = False) -> str:
    """Say something to the control API, by one of the server's addresses."""
    address = dice.choice((me.knows.control, me.knows.server))
    one = me.connect(address, me.knows.control_port)
    try:
        one.sendall(text.encode())
        said = b"" if held else one.recv(65536)
    finally:
        if held:
            me.hold(one)
        else:
            one.close()
    assert b" 200 " not in said.split(b"\r\n")[0], f"{address} has answered {said!r}"
    return status(said)


@primitive("control.tokenless")
def tokenless(me: Infected, dice: random.Random) -> str:
    """Ask for everything without a token."""
    method = dice.choice(("GET", "POST", "DELETE"))
    return ask(me, f"{method} {dice.choice(PATHS[:4])} HTTP/1.1\r\nHost: x\r\n\r\n", dice)


@primitive("control.token")
def token(me: Infected, dice: random.Random) -> str:
    """Guess tokens."""
    guess = dice.choice(("x", "", "a" * 9000, "\xff", "Bearer"))
    text = f"GET /v1/hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {guess}\r\n\r\n"
    return ask(me, text, dice)


@primitive("control.body")
def body(me: Infected, dice: random.Random) -> str:
    """Send a body that is much too large."""
    head = "POST /v1/hosts/pc2/start HTTP/1.1\r\nHost: x\r\nContent-Length: 400000000\r\n\r\n"
    return ask(me, head + "a" * 500_000, dice)


@primitive("control.half")
def half(me: Infected, dice: random.Random) -> str:
    """Send half a request, and keep the connection."""
    return ask(me, "GET /v1/hosts HTTP/1.1\r\nHo", dice, held=True)


@primitive("control.browser")
def browser(me: Infected, dice: random.Random) -> str:
    """Send what a page in an administrator's browser could: forms of another origin."""
    text = "POST /v1/hosts/pc2/reset HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n"
    return ask(me, text + "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", dice)
