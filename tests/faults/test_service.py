"""The service as a whole: what it does with what goes wrong around it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.network import SERVER, mac
from tests import certificates
from tests.faults.conf import PASSWORD
from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab
from tests.netboot.network import inside


def fault(lab: SmallLab, text: str) -> None:
    (lab.machine.state / "fault").write_text(text)


def no_fault(lab: SmallLab) -> None:
    (lab.machine.state / "fault").unlink()


def test_sigterm_ends_everything(lab: SmallLab) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    assert lab.processes(["tgtd", "dnsmasq"]) == ["dnsmasq", "tgtd"]
    assert lab.kill(signal.SIGTERM) == 0
    assert lab.machine.pid is None
    assert lab.processes(["tgtd", "dnsmasq"]) == []


def test_a_guest_is_told_its_default_route_by_its_agent(lab: SmallLab) -> None:
    lab.conf.write_text(lab.conf.read_text() + "network_via = agent\n")
    lab.start()
    assert lab.routes() == ""
    assert lab.client.start("pc1", SERVICE)["warning"] == ""
    assert lab.routes().split() == ["default", "via", str(SERVER.ip), "dev", "eth0"]


def test_no_connection_outlives_its_run(lab: SmallLab) -> None:
    """Of this host: those of others stay."""
    lab.start()
    lab.client.start("pc1", SERVICE)
    for ends in ("-s 10.99.0.11 -d 203.0.113.7", "-s 203.0.113.8 -d 10.99.0.11",
                 "-s 10.99.0.12 -d 203.0.113.7"):  # fmt: skip
        words = f"conntrack -I -p udp --sport 4444 --dport 4444 -t 6000 {ends}"
        lab.network.run(words.split())
    lab.client.stop("pc1", SERVICE)
    lab.wait(lambda: "10.99.0.11 " not in flows(lab), "their end")
    assert "src=10.99.0.12 dst=203.0.113.7" in flows(lab)
    assert lab.client.start("pc1", SERVICE)["warning"] == ""


def flows(lab: SmallLab) -> str:
    return lab.network.run(["conntrack", "-L"])


def test_left_over_daemons_are_replaced(lab: SmallLab) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.kill(signal.SIGKILL)
    assert lab.processes(["tgtd", "dnsmasq"]) == ["dnsmasq", "tgtd"]
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the way back to clean")
    assert lab.processes(["tgtd", "dnsmasq"]) == ["dnsmasq"], "nothing is exported"
    assert lab.machine.pid is None


def test_dhcp_that_died_is_started_again(lab: SmallLab) -> None:
    lab.start()
    pid = int((lab.at / "run" / "dnsmasq.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    lab.wait(lambda: not lab.processes(["dnsmasq"]), "its end")
    lab.wait(lambda: lab.processes(["dnsmasq"]), "its return")
    assert "DHCP has died" in lab.log.read_text()
    assert lab.kill(signal.SIGTERM) == 0
    assert lab.processes(["dnsmasq"]) == []


def test_reload_takes_what_can_be_taken_and_no_run_ends(lab: SmallLab, tmp_path: Path) -> None:
    lab.start()
    generation = lab.client.start("pc1", SERVICE)["generation"]

    def reload(old: str, new: str, said: str) -> None:
        lab.conf.write_text(lab.conf.read_text().replace(old, new))
        assert lab._service
        lab._service.send_signal(signal.SIGHUP)
        lab.wait(lambda: said in lab.log.read_text(), said)

    reload("firmware = bios", "firmware = bios\nboot_file = snponly.efi", "boot_file = snponly.efi")
    assert "snponly.efi" in (tmp_path / "run/dnsmasq.conf").read_text()
    reload("boot_file =", "gateway = 10.99.0.2\nboot_file =", "gateway = 10.99.0.2")
    assert ",option:router,10.99.0.2\n" in (tmp_path / "run/dnsmasq.conf").read_text()
    reload("[netboot]", "[netboot]\ndhcp = kea", "[netboot] dhcp = kea")
    assert "kea-dhcp4" in lab.processes(["kea-dhcp4", "dnsmasq"])
    reload("", "", "reload: nothing has changed")
    reload(
        "dhcp = kea", "dhcp = kea\ntftp_root = /nonexistent", "nothing was taken: netboot.tftp_root"
    )
    assert "kea-dhcp4" in lab.processes(["kea-dhcp4", "dnsmasq"]), "as before"
    reload("tftp_root = /nonexistent", "boot_port = 8472", "[netboot] boot_port has changed")
    reload("boot_port = 8472", "nonsense", "reload: nothing was taken: ")
    report = lab.client.host("pc1")
    assert (report["state"], report["generation"]) == ("running", generation)
    assert lab.kill(signal.SIGTERM) == 0
    assert lab.processes(["tgtd", "dnsmasq", "kea-dhcp4"]) == []


def test_two_services_on_one_store(lab: SmallLab, tmp_path: Path) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    other = tmp_path / "other.conf"
    text = lab.conf.read_text().replace("api.sock", "other.sock")
    text = text.replace(f"run_dir = {tmp_path}/run", f"run_dir = {tmp_path}/other")
    other.write_text(text.replace("ra_prefix", "boot_port = 8472\nra_prefix"))
    said = lab.run_cli("--conf", str(other), "serve", code=1)
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert str(tmp_path / "store") in said
    assert lab.state() == "running"
    assert lab.machine.pid is not None


def test_the_same_service_twice(lab: SmallLab) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    said = lab.run_cli("serve", code=1)
    assert "error: " in said
    assert "Traceback" not in said
    assert lab.answers(), "the first one's socket was taken away"
    assert lab.state() == "running"


def test_says_off_and_stays_on(lab: SmallLab) -> None:
    lab.set("power_timeout", 10)
    lab.start()
    lab.client.start("pc1", SERVICE)
    fault(lab, "stuck-on")
    with pytest.raises(ServiceError, match="quarantined") as caught:
        lab.client.stop("pc1", 2.0)
    assert "not yet proved off, 2 s after stop" in str(caught.value)
    assert "zfsiscsi reset pc1" in str(caught.value)
    assert lab.state() == "quarantined"
    lab.wait(lambda: "still on" in lab.client.host("pc1")["reason"], "the power_timeout")
    with pytest.raises(ServiceError, match="quarantined"):
        lab.client.start("pc1", SERVICE)
    no_fault(lab)
    lab.client.reset("pc1")
    lab.wait(lambda: lab.state() == "clean", "healing")
    assert lab.client.start("pc1", SERVICE)["generation"] > 1


def test_says_on_and_stays_off(lab: SmallLab) -> None:
    lab.set("power_timeout", 10)
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first reset")
    fault(lab, "stuck-off")
    with pytest.raises(ServiceError, match="still off"):
        lab.client.start("pc1", SERVICE)
    assert lab.state() == "quarantined"


def test_wrong_password(lab: SmallLab, tmp_path: Path) -> None:
    (tmp_path / "bmc.password").write_text("wrong\n")
    lab.start()
    lab.wait(lambda: lab.state() == "quarantined", "the quarantine")
    reason = str(lab.client.host("pc1")["reason"])
    assert "password" in reason
    said = lab.run_cli("power", "pc1", "status", code=1)
    assert re.search(r"^error: .*10\.98\.0\.11.*password", said, re.MULTILINE)
    assert "wrong" not in lab.log.read_text().replace("wrong password", "")


@pytest.mark.parametrize(("only", "stage"), [("none", "rpc"), ("rpc", "agent")])
def test_guest_that_does_not_answer(lab: SmallLab, only: str, stage: str) -> None:
    lab.play("--only", only)
    lab.set("boot_timeout", 10)
    lab.start()
    with pytest.raises(ServiceError, match=f"no {stage}"):
        lab.client.start("pc1", SERVICE)
    assert lab.state() == "quarantined"
    assert lab.machine.pid is None


def test_guest_that_booted_from_elsewhere(lab: SmallLab) -> None:
    lab.play("--no-login")
    lab.set("boot_timeout", 10)
    lab.start()
    told = r"no dhcp, though its RPC answers: it booted from something else than its disk"
    with pytest.raises(ServiceError, match=told):
        lab.client.start("pc1", SERVICE)
    assert lab.machine.pid is None


def test_no_golden_image(lab: SmallLab) -> None:
    lab.conf.write_text(lab.conf.read_text().replace("snapshot = golden", "snapshot = win10"))
    lab.start()
    lab.wait(lambda: lab.state() == "quarantined", "the quarantine")
    reason = str(lab.client.host("pc1")["reason"])
    assert "win10" in reason
    assert "zfsiscsi image import" in reason


def test_damaged_golden_image(lab: SmallLab, tmp_path: Path) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.client.stop("pc1", SERVICE)
    lab.wait(lambda: lab.state() == "clean", "the reset")
    lab.network.run(["chattr", "-i", str(tmp_path / "store/images/golden/1.raw")])
    with (tmp_path / "store/images/golden/1.raw").open("r+b") as image:
        image.write(b"changed")
    with pytest.raises(ServiceError, match="golden@1"):
        lab.client.start("pc1", SERVICE)
    assert lab.machine.pid is None


def test_image_in_use_is_not_deleted(lab: SmallLab) -> None:
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first reset")
    said = lab.run_cli("image", "delete", "golden@1", code=1)
    assert "pc1" in said
    assert lab.client.start("pc1", SERVICE)["image"] == "golden@1"


def test_secrets_stay_secret(lab: SmallLab, tmp_path: Path) -> None:
    """Neither password nor CHAP secret in argv, environment of others, log, or an open file."""
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first reset")
    seen: set[bytes] = set()
    done = threading.Event()
    sampler = threading.Thread(target=sample_argv, args=(lab, seen, done))
    sampler.start()
    try:
        lab.client.start("pc1", SERVICE)
        script = lab.ask_guest("/ibft")["script"]
        lab.client.stop("pc1", SERVICE)
    finally:
        done.set()
        sampler.join()
    found = re.search(r"^set password (\S+)$", script, re.MULTILINE)
    assert found
    secrets = [PASSWORD.encode(), found[1].encode()]
    assert any(b"ipmitool" in argv for argv in seen), "nothing was sampled"
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files
    open_files = [path.read_bytes() for path in files if path.stat().st_mode & 0o077]
    for place in [*seen, lab.log.read_bytes(), *open_files]:
        assert not any(secret in place for secret in secrets)


def sample_argv(lab: SmallLab, seen: set[bytes], done: threading.Event) -> None:
    """Collect the arguments of everything that runs in the lab."""
    while not done.is_set():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(path.read_bytes())


def test_boot_scripts_are_for_armed_hosts_alone(lab: SmallLab) -> None:
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first reset")
    url = "http://10.99.0.1:8471/boot.ipxe?mac="
    assert lab.fetch_as_guest(url + mac(1)) == "not found\n"
    lab.client.start("pc1", SERVICE)
    assert lab.ask_guest("/ibft")["script"].startswith("#!ipxe")
    assert lab.fetch_as_guest(url + mac(1)) == "not found\n", "it has it, and runs"
    assert lab.fetch_as_guest(url + mac(2)) == "not found\n"
    # No host has this address: nobody answers
    with pytest.raises(LabError, match=r"status 5[26]: it said nothing"):
        lab.network.run(["curl", "--silent", url + mac(1)])
    for path in ("/", "/login", "/docs", "/metrics", "/v1/hosts", "/openapi.json", "/boot.ipxe"):
        assert lab.fetch_as_guest(f"http://10.99.0.1:8471{path}") == "not found\n"
    lab.client.stop("pc1", SERVICE)
    assert lab.fetch_as_guest(url + mac(1)) == "not found\n"
    assert "not armed" in lab.log.read_text()


def test_unix_socket_is_for_root_alone(lab: SmallLab, tmp_path: Path) -> None:
    lab.start()
    assert stat.S_IMODE((tmp_path / "api.sock").stat().st_mode) & 0o007 == 0
    assert Client(f"unix://{tmp_path}/api.sock").hosts()


def test_https_with_a_certificate_that_is_renewed(lab: SmallLab, tmp_path: Path) -> None:
    token, first = tmp_path / "token", tmp_path / "first"
    token.touch(0o600)
    token.write_text("the-token-of-the-test")
    pair = certificates.make(tmp_path / "tls")
    first.write_bytes(pair.certificate.read_bytes())
    url = "https://127.0.0.1:8470"
    keys = f"certificate = {pair.certificate}\nprivate_key = {pair.key}\nca_file = {first}"
    lab.set("service", f"{url}\ntoken_file = {token}\n{keys}")

    def client(ca_file: Path, url: str = url) -> Client:
        return Client(url, str(token), ca_file=str(ca_file))

    def is_renewed() -> bool:
        with contextlib.suppress(ServiceError):
            return bool(client(pair.certificate).hosts())
        return False

    pair.key.chmod(0o644)
    assert "error: [zfsiscsi] private_key" in lab.run_cli("serve", code=1)
    assert not list((tmp_path / "run").iterdir()), "no host is touched with a key that others have"
    pair.key.chmod(0o600)
    with inside(lab._namespace):
        lab.client = client(first)
        lab.start()
        assert "pc1" in lab.run_cli("hosts")
        with pytest.raises(ServiceError, match="no answer"):
            client(first, url.replace("https", "http")).hosts()
        certificates.make(tmp_path / "tls")
        assert lab._service
        lab._service.send_signal(signal.SIGHUP)
        lab.wait(is_renewed, "the new certificate")
        with pytest.raises(ServiceError, match="signed by none"):
            client(first).hosts()
        lab.client = client(pair.certificate)
        pair.key.chmod(0o644)
        lab._service.send_signal(signal.SIGHUP)
        lab.wait(lambda: "open to others" in lab.log.read_text(), "the refusal")
        assert lab.answers(), "it goes on with what it has"
        assert lab.kill(signal.SIGTERM) == 0
