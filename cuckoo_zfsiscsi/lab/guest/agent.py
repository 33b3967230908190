"""Stand-in for CAPE's agent in the guest: says that it is there, and runs commands as root."""

from __future__ import annotations

import json
import shlex
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

FEATURES = ["execpy", "execute", "pinning", "logs", "largefile", "unicodepath", "mutex"]
"""What CAPE's own agent says of itself; of these, this one does "execute"."""


class Agent(BaseHTTPRequestHandler):
    """GET / and POST /execute (form field "command"). It refuses nobody, its own host neither."""

    timeout = 30

    def do_GET(self) -> None:
        """Answer as CAPE expects it."""
        if self.path == "/":
            about = {"message": "CAPE Agent!", "version": "0.20", "features": FEATURES}
            self._answer(200, {**about, "is_user_admin": True})
        else:
            self._answer(404, {"message": "Not found", "error_code": 404})

    def do_POST(self) -> None:
        """Run one program, as CAPE's does: without a shell, and without a word of how it ended."""
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
        if self.path != "/execute" or "command" not in form:
            self._answer(400, {"message": "No command has been provided", "error_code": 400})
            return
        try:
            done = subprocess.run(shlex.split(form["command"][0]), capture_output=True)
        except (OSError, ValueError) as error:
            self._answer(500, {"message": f"Error executing command: {error}", "error_code": 500})
            return
        output = {"stdout": done.stdout, "stderr": done.stderr}
        texts = {name: text.decode(errors="replace") for name, text in output.items()}
        self._answer(200, {"message": "Successfully executed command", **texts})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Stay quiet."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("", 8000), Agent) as server:
        server.serve_forever()
