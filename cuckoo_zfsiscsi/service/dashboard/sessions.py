"""Who is logged in: the token is shown once, then a cookie that scripts and other sites can't use.

A session opens the dashboard alone, never the control API. It lives in memory: a restart of the
service ends all of them.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from cuckoo_zfsiscsi.clock import SYSTEM, Clock

COOKIE = "zfsiscsi"
LIFETIME = 12 * 3600.0
"""Seconds after which one logs in again."""
MOST = 1000
"""Sessions at a time; the oldest ends when there are more."""


@dataclass(slots=True)
class Session:
    """One browser that is logged in."""

    until: float
    """Monotonic seconds at which it ends."""
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """What the cookie holds."""
    form: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """What every form of its pages must send back: another site can't read it."""
    message: str = ""
    """To be shown on its next page."""

    @property
    def name(self) -> str:
        """What it is called in the audit log: it tells sessions apart, and opens nothing."""
        return _hash(self.key)[:8]


class Sessions:
    """All sessions. Safe from any thread.

    Args:
        token: of the control API; None where a unix socket guards, so nobody logs in.
        clock: that sessions end by.
    """

    def __init__(self, token: str | None, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._token = token
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    @property
    def open(self) -> bool:
        """Whether everyone who gets here may be here."""
        return self._token is None

    def log_in(self, token: str) -> Session | None:
        """Return a new session, or None if that is not the token."""
        if self._token is not None and not secrets.compare_digest(
            token.encode(), self._token.encode()
        ):
            return None
        now = self._clock.monotonic()
        session = Session(now + LIFETIME)
        with self._lock:
            kept = [(key, one) for key, one in self._sessions.items() if one.until > now]
            self._sessions = dict(kept[-(MOST - 1) :])
            self._sessions[_hash(session.key)] = session
        return session

    def find(self, request: Request) -> Session | None:
        """Return the session that a request belongs to."""
        key = request.cookies.get(COOKIE, "")
        with self._lock:
            session = self._sessions.get(_hash(key))
        return session if session and session.until > self._clock.monotonic() else None

    def end(self, session: Session) -> None:
        """Log out."""
        with self._lock:
            self._sessions.pop(_hash(session.key), None)
            session.until = 0.0


def _hash(key: str) -> str:
    """Return what is looked up instead, so that the time it takes tells nothing of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def set_cookie(request: Request, response: Response, session: Session) -> None:
    """Have the browser keep a session: for this site alone, and out of reach for scripts."""
    response.set_cookie(
        COOKIE,
        session.key,
        max_age=int(LIFETIME),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
