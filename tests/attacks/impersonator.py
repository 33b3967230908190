"""Malware that takes a sibling's card and address, and asks for its boot script: run by itself.

    impersonator.py URL ADDRESS [--after FILE] [--times N] [--only-scripts]

Runs in a network namespace whose one card has the sibling's MAC address, and its IP address. With
the script it writes over the boot sector of the sibling's disk, and lets go of it. Prints what each
answer was good for, as JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from guest import SECTOR, log_in  # type: ignore[import-not-found]

POLL = 0.1
PATIENCE = 1.0
"""Seconds for one answer."""


def ask(url: str, address: str) -> tuple[int, str]:
    """Return status and text of an answer; 0 if there is none."""
    where = urlsplit(url)
    server = http.client.HTTPConnection(
        where.hostname or "", where.port, timeout=PATIENCE, source_address=(address, 0)
    )
    try:
        server.request("GET", f"{where.path}?{where.query}")
        answer = server.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        server.close()


def use(script: str) -> bool:
    """Write to the disk that a script is for; tell whether that could be done."""
    try:
        log_in(script).write(os.urandom(SECTOR))
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("address")
    parser.add_argument("--after", type=Path, help="file that must be there; it is taken away")
    parser.add_argument("--times", type=int, default=1, help="answers that are enough")
    parser.add_argument("--only-scripts", action="store_true", help="others do not count")
    options = parser.parse_args()
    got: list[dict[str, object]] = []
    while len(got) < options.times:
        while options.after and not options.after.exists():
            time.sleep(POLL)
        status, text = ask(options.url, options.address)
        is_script = "sanboot" in text
        if not status or (options.only_scripts and not is_script):
            time.sleep(POLL)
            continue
        if options.after:
            options.after.unlink(missing_ok=True)
        got.append({"status": status, "script": is_script, "wrote": is_script and use(text)})
    sys.stdout.write(json.dumps(got))


if __name__ == "__main__":
    main()
