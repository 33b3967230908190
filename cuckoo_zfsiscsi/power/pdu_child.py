"""One call of one of labgrid's power models: python -m ...pdu_child on|off|status.

What to call is in the environment (pdu.py). Prints the state; the exit code tells what went wrong,
and the last line of standard error why, without the password.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from types import ModuleType
from typing import Any
from urllib.parse import quote

from cuckoo_zfsiscsi.power.pdu import MISSING, REFUSED, TEMPORARY
from cuckoo_zfsiscsi.power.pdu_answers import MisunderstoodError, check, heard, judge

NO_URL = ("apc", "eaton", "poe_mib", "raritan", "sentry", "siglent", "tplink")
"""Models that take a name or address; others with a port of their own do too, the rest a URL."""


def find_address(backend: ModuleType, job: dict[str, Any], password: str) -> tuple[str, int | None]:
    """Return host and port as a model of labgrid expects them."""
    host, port = str(job["host"]), job["port"]
    own_port = getattr(backend, "PORT", None)
    if own_port is not None:
        return host, port or own_port
    if job["model"] in NO_URL:
        return (f"{host}:{port}" if port else host), None
    scheme = "https" if job["tls"] else "http"
    user = f"{quote(job['user'], safe='')}:{quote(password, safe='')}@" if job["user"] else ""
    return f"{scheme}://{user}{host}{f':{port}' if port else ''}{job['path']}", None


def call(action: str, job: dict[str, Any], password: str) -> str:
    """Switch or ask; return the state, "" after a switch."""
    backend = importlib.import_module(f"labgrid.driver.power.{job['model']}")
    host, port = find_address(backend, job, password)
    model, outlet = job["model"], str(job["outlet"])
    with heard(backend) as kept:
        if action != "status":
            backend.power_set(host, port, outlet, action == "on")
            check(model, kept)
            return ""
        state = backend.power_get(host, port, outlet)
    return "on" if judge(model, outlet, state, kept) else "off"


def explain(error: Exception) -> tuple[int, str]:
    """Return exit code and reason of a failure."""
    import requests

    if isinstance(error, ModuleNotFoundError):
        return MISSING, f"the model needs {error.name}, which is not installed"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        code = TEMPORARY if status in (429, 500, 502, 503, 504) else 1
        return (REFUSED if status in (401, 403) else code), f"HTTP {status}"
    if isinstance(error, requests.exceptions.SSLError):
        return 1, "its certificate is not trusted"
    if isinstance(error, (requests.ConnectionError, requests.Timeout, TimeoutError)):
        return TEMPORARY, "it does not answer"
    text = str(error)
    if isinstance(error, MisunderstoodError):
        return 1, text
    # What labgrid's models raise when net-snmp's tools have failed
    if "SNMP" in text or "snmp" in text:
        return TEMPORARY, "it does not answer SNMP"
    return 1, f"{type(error).__name__} {text}".replace("\n", " ")


def main() -> int:
    """Run; return the exit code."""
    warnings.simplefilter("ignore")
    password = os.environ.pop("PDU_PASSWORD", "")
    try:
        sys.stdout.write(call(sys.argv[1], json.loads(os.environ["PDU_JOB"]), password))
    except Exception as error:  # noqa: BLE001 - whatever a model raises
        code, why = explain(error)
        for secret in (password, quote(password, safe="")):
            why = why.replace(secret, "***") if secret else why
        sys.stderr.write(f"\n{why}\n")
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
