"""A folder with programs that look like CAPE's from outside: what they print, what they answer."""

from __future__ import annotations

from pathlib import Path

CUCKOO = """\
import sys, time
from lib import conf
print("INFO: Waiting for analysis tasks", flush=True)
time.sleep(600)
"""
CONF = """\
import os
text = open(os.path.join(os.environ["CAPE_CD"], "cuckoo.conf")).read()
assert os.environ["CAPE_AS_ROOT"] == "1" and "[database]" in text
"""
SUBMIT = """\
import sys
print("Success: File", sys.argv[-1], "added as task with ID \\x1b[33m7\\x1b[0m")
"""
MANAGE = """\
import http.server, json, sys
if sys.argv[1] == "migrate":
    open("migrated", "w")
    sys.exit(0)
open("migrated")

class Web(http.server.BaseHTTPRequestHandler):
    looks = 0

    def log_message(self, *_): ...

    def send(self, body, status=200):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/submit/":
            self.send('<input name="csrfmiddlewaretoken" value="abc">')
        elif self.path.startswith("/apiv2/tasks/view/9"):
            self.send({"error": True, "error_value": "Task not found"})
        elif self.path.startswith("/apiv2/tasks/view/"):
            Web.looks += 1
            status = "reported" if Web.looks > 2 else "running"
            self.send({"error": False, "data": {"status": status, "errors": []}})
        elif self.path == "/apiv2/machines/list/":
            self.send({"error": False, "data": [{"label": "pc1"}]})
        elif self.path.endswith("/1/json/"):
            self.send({"info": {}})
        elif self.path.endswith("/2/json/"):
            self.send([])
        else:
            self.send("<html>", 500)

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "refused" in text:
            self.send("<h1>no</h1>")
        elif self.path == "/submit/":
            assert "abc" in text and self.headers["Referer"]
            self.send('<a href="/submit/status/9/">')
        else:
            self.send({"data": {"task_ids": [8]}})

address, _, port = sys.argv[2].partition(":")
server = http.server.ThreadingHTTPServer((address, int(port)), Web)
print("Listening on TCP address", flush=True)
server.serve_forever()
"""


def make(root: Path) -> Path:
    """Make the folder; return it."""
    for name, text in (
        ("cuckoo.py", CUCKOO),
        ("lib/__init__.py", ""),
        ("lib/conf.py", CONF),
        ("utils/process.py", "import time\ntime.sleep(600)\n"),
        ("utils/submit.py", SUBMIT),
        ("web/manage.py", MANAGE),
        (".git/HEAD", "left out"),
        ("storage/old", "left out"),
        ("web/storage/kept", "not at the top"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
