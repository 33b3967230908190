from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.check import Finding, hosts
from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.progress import silent
from tests.config.sample import EXAMPLE, GOOD, SECRET, edit
from tests.power.bmc import Bmc, free_port
from tests.waiting import HANG


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "zfsiscsi.conf"


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    one = Bmc(tmp_path / "bmc")
    one.start()
    yield one
    one.stop()


TELLS: dict[str, list[dict[str, Any]]] = {
    "/v1/hosts": [{"label": "pc1"}, {"label": "pc2"}],
    "/v1/networks": [
        {"network": "netboot", "hosts": ["pc1", "pc2"], "state": "not known", "why": "not tried"},
        {"network": "vlan20", "hosts": ["pc3"], "state": "isolated", "why": "pc3 is alone in it"},
        {"network": "vlan30", "hosts": ["a", "b"], "state": "not isolated", "why": "a reached b"},
    ],
}


class Hosts(BaseHTTPRequestHandler):
    """A service that has two hosts."""

    def do_GET(self) -> None:
        body = json.dumps(TELLS[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hosts) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check(conf: Path, *options: str) -> int:
    return run(["--conf", str(conf), "check", *options])


def online(folder: Path, bmc: Bmc, service: str) -> str:
    """Return a configuration that is right on this machine, but for pc2's power."""
    for name, content in (("token", "0123456789abcdef"), ("password", bmc.password)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    return edit(
        ("/etc/zfsiscsi/token", f"{folder}/token\nservice = {service}"),
        ("/etc/zfsiscsi/pc1.password", f"{folder}/password"),
        ("portal = 10.99.0.1", f"portal = 127.0.0.1\npath = {folder}"),
        ("interface = br-lab\naddress = 10.99.0.1/24", "interface = lo\naddress = 127.0.0.1/8"),
        ("ra_prefix = fd99:0:0:1::/64\n", ""),
        ("ip = 10.99.0.11", "ip = 127.1.0.11"),
        ("ip = 10.99.0.12", "ip = 127.1.0.12"),
        ("ipmi://admin@10.98.0.11", str(bmc.url())),
        ("10.98.0.12", f"127.0.0.1:{free_port()}?timeout=1&tries=1\npower_timeout = 2"
         f"\npower_password_file = {folder}/password"),
    )  # fmt: skip


def add_image(folder: Path, name: str, *, seal: bool = True) -> None:
    store = FileStore(folder, immutable=False)
    source = folder / "source.raw"
    source.write_bytes(bytes(1 << 20))
    deadline = Deadline(HANG)
    store.import_image(name, source, deadline=deadline, progress=silent)
    if seal:
        store.seal(name, deadline=deadline, progress=silent)


def test_the_example_offline(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(EXAMPLE, "--offline") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "0 errors, 0 warnings"
    assert "pc1" in out


def test_mistakes_one_line_each(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(
        edit(
            ("00:11:22:33:44:01", "00:11:22:33:44"),
            ("platform = windows", "pltform = windows"),
            ("power_password_file = /etc/zfsiscsi/pc1.password", f"power_password = {SECRET}"),
        )
    )
    assert check(conf, "--offline") == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 4
    assert "error   zfsiscsi.conf [pc1] mac = 00:11:22:33:44: is not a MAC address" in out
    assert all(line.startswith("error") and "Fix: " in line for line in lines[:3])
    assert lines[3] == "3 errors, 0 warnings"
    assert SECRET not in out + err


def test_warnings_are_no_errors(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(edit(("00:11:22:33:44:01", "001122334401"), ("tags = win10,x64\n", "")))
    assert check(conf, "--offline") == 0
    out = capsys.readouterr().out
    assert "warning [pc1] mac = 001122334401: CAPE takes it for 1122334401" in out
    assert out.splitlines()[-1] == "0 errors, 3 warnings"


def test_json(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(edit(("arch = x64", "arch = x65")))
    assert check(conf, "--offline", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "conf": str(conf),
        "ok": False,
        "findings": [
            {
                "level": "error",
                "where": "zfsiscsi.conf [pc1] arch = x65",
                "what": "must be 'x86' or 'x64'",
                "fix": "did you mean x86?",
            }
        ],
    }


def test_no_file(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(conf) == 1
    assert "does not exist" in capsys.readouterr().err


def test_online(
    conf: Path, tmp_path: Path, bmc: Bmc, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(online(tmp_path, bmc, service))
    add_image(tmp_path, "win10")
    add_image(tmp_path, "debian", seal=False)
    bmc.power = "1"
    assert check(conf, "--json") == 1
    out, err = capsys.readouterr()
    found = {f["where"]: f for f in json.loads(out)["findings"]}
    assert "pc1 is on" in found[f"[pc1] power = {bmc.url()}"]["what"]
    (silent_bmc,) = [f for where, f in found.items() if where.startswith("[pc2] power")]
    assert silent_bmc["level"] == "error"
    assert silent_bmc["fix"]
    assert found["[pc1] snapshot = win10"]["what"].startswith("win10@1 is sealed")
    assert found["[pc2] snapshot = debian@3"]["what"] == "no image debian@3"
    assert found["[netboot] interface = lo"]["level"] == "ok"
    assert found[f"[zfsiscsi] service = {service}"] == {
        "level": "info",
        "where": f"[zfsiscsi] service = {service}",
        "what": "runs, with 2 hosts",
        "fix": "",
    }
    levels = {name: found[f"network {name}"]["level"] for name in ("netboot", "vlan20", "vlan30")}
    assert levels == {"netboot": "warning", "vlan20": "ok", "vlan30": "warning"}
    assert found["network netboot"]["fix"] == "zfsiscsi netboot isolation --network netboot"
    assert "13 s" in found["[netboot] ra_prefix"]["what"]
    assert bmc.password not in out + err


def test_power_devices_are_asked_at_the_same_time(
    conf: Path,
    tmp_path: Path,
    bmc: Bmc,
    service: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Barrier(10)
    ask_power = hosts._ask_power

    def ask_when_all_do(*arguments: Any) -> Finding:
        asked.wait(HANG)
        return ask_power(*arguments)

    monkeypatch.setattr(hosts, "_ask_power", ask_when_all_do)
    text = online(tmp_path, bmc, service)
    host = text[text.index("[pc2]") :]
    numbers = range(3, 11)
    text = text.replace("pc1,pc2", "pc1,pc2," + ",".join(f"pc{n}" for n in numbers))
    for n in numbers:
        more = host.replace("pc2", f"pc{n}").replace("127.1.0.12", f"127.1.0.{n}")
        more = more.replace("44:02", f"55:{n:02}").replace(
            "ipmi://admin@127.0.0.1", f"ipmi://admin@127.0.0.{n}"
        )
        text += more.replace("power_timeout = 2", "power_timeout = 4")
    conf.write_text(text)
    assert check(conf) == 1
    assert not asked.broken, "one after the other"
    assert sum(" power = " in line for line in capsys.readouterr().out.splitlines()) == 10


def test_service_that_is_down(
    conf: Path, tmp_path: Path, bmc: Bmc, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image(tmp_path, "win10")
    text = online(tmp_path, bmc, "http://127.0.0.1:1")
    conf.write_text(text[: text.index("[pc2]")].replace("pc1,pc2", "pc1"))
    assert check(conf) == 0
    assert "info    [zfsiscsi] service = http://127.0.0.1:1" in capsys.readouterr().out


def test_bad_password_file(
    conf: Path, tmp_path: Path, bmc: Bmc, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image(tmp_path, "win10")
    text = online(tmp_path, bmc, "http://127.0.0.1:1")
    conf.write_text(text[: text.index("[pc2]")].replace("pc1,pc2", "pc1"))
    (tmp_path / "password").chmod(0o644)
    assert check(conf) == 1
    out, err = capsys.readouterr()
    assert f"is open to others (mode 0644). Fix: chmod 600 {tmp_path}/password" in out
    assert bmc.password not in out + err
    assert GOOD not in err
