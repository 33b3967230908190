"""zfsiscsi cape install, check and uninstall, over a folder that looks like CAPE's."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.cape import check as checks
from cuckoo_zfsiscsi.cape import install as files
from cuckoo_zfsiscsi.cape.check import check
from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.cape.install import SHIM, render
from cuckoo_zfsiscsi.cape.options import Options
from cuckoo_zfsiscsi.cape.plugin import WHEEL
from cuckoo_zfsiscsi.cape.resultserver import ANY
from cuckoo_zfsiscsi.cape.tree import CapeTree, Change
from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.lab.cape_standin import Config, load_plugin
from tests.cape import namespace, rooter, wheel
from tests.cape.namespace import Namespace
from tests.cape.service import Service, answer
from tests.cape.test_plugin import make_environment, offer
from tests.cape.tree import configure, fingerprint, host, make, network, view
from tests.config.sample import EXAMPLE

BPF = "not arp and not (host 203.0.113.1 and tcp portrange 3271-3272)"
"""What is captured of the runs on tests/cape/tree.py's hosts: not their disks."""

Cli = Callable[..., int]


@pytest.fixture(autouse=True)
def server() -> Iterator[Namespace]:
    """CAPE's server, which has an address in the hosts' network. Storage is on another."""
    with namespace.enter() as made:
        made.add("br-lab", "203.0.113.2/24")
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "CAPEv2")


@pytest.fixture
def cli(root: Path, service: Service, token_file: Path) -> Cli:
    service.acts["/v1/cape"] = answer(200, view())
    token_file.chmod(0o600)

    def cli(verb: str, *words: str) -> int:
        asks = ("--service", service.url, "--token-file", str(token_file))
        return run(
            ["cape", verb, "--cape-root", str(root), *words, *(asks if verb != "uninstall" else ())]
        )

    return cli


def make_python(path: Path, script: str = f"echo {__version__}") -> Path:
    """Play CAPE's Python: by default one that has this package. A real one takes a while."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def found(root: Path, seen: dict[str, Any], python: Path | None = None) -> dict[str, str]:
    """Return what check finds wrong, by place."""
    python = python or make_python(root.parent / "cape-python")
    return {
        finding.where: finding.what
        for finding in check(CapeTree(root), seen, python, System())
        if finding.level in ("error", "warning")
    }


def test_from_a_fresh_checkout_and_back(
    cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(root)
    assert cli("install") == 0
    said = capsys.readouterr().out
    assert "+machinery = zfsiscsi" in said
    assert f"+bpf = {BPF}" in said
    assert "--apply does it" in said
    new = fingerprint(root)
    assert set(new) - set(before) == {
        "modules/machinery/zfsiscsi.py", "custom/conf/zfsiscsi.conf",
    }  # fmt: skip
    assert {name: new[name] for name in before} == before, "CAPE's own files were changed"
    assert new["modules/machinery/zfsiscsi.py"] == SHIM.read_bytes()

    assert cli("install", "--apply") == 0
    assert "written" not in capsys.readouterr().out, "nothing has changed in ours"
    tree = CapeTree(root)
    assert tree.get("cuckoo", "cuckoo", "machinery") == "zfsiscsi"
    assert tree.get("auxiliary", "sniffer", "bpf") == BPF
    assert cli("install", "--apply") == 0
    assert "suit the service" in capsys.readouterr().out

    installed = fingerprint(root)
    assert cli("uninstall") == 0
    said = capsys.readouterr().out
    assert "-machinery = zfsiscsi" in said
    assert f"to be removed: {tree.shim}" in said
    assert "--apply does it" in said
    assert fingerprint(root) == installed, "something is changed without --apply"
    assert cli("uninstall", "--apply") == 0
    assert f"removed: {tree.shim}" in capsys.readouterr().out
    assert tree.get("cuckoo", "cuckoo", "machinery") == "kvm"
    assert fingerprint(root) == before
    assert cli("uninstall", "--apply") == 0
    capsys.readouterr()
    assert cli("uninstall") == 0
    assert capsys.readouterr().out == "nothing of ours is there\n"


def test_keys_that_were_there_come_back(cli: Cli, root: Path) -> None:
    path = root / "conf/cuckoo.conf"
    text = "[cuckoo]\n# mine\nmachinery = physical\nmax_vmstartup_count = 1\n"
    path.write_text(text)
    assert cli("install", "--apply") == 0
    assert "machinery = zfsiscsi\nmax_vmstartup_count = 2\n" in path.read_text()
    path.write_text(path.read_text().replace("max_vmstartup_count = 2", "max_vmstartup_count = 7"))
    assert cli("uninstall", "--apply") == 0
    assert path.read_text() == text.replace("count = 1", "count = 7"), "what somebody changed stays"


def test_a_key_is_looked_for_in_its_own_section(root: Path) -> None:
    tree, path = CapeTree(root), root / "custom/conf/routing.conf"
    files.change(tree, [Change(path, "routing", "enable_pcap", None, "yes")])
    path.write_text("[routing]\nenable_pcap = no\n[mine]\nenable_pcap = yes\n")
    assert files.undo(tree) == [], "somebody has changed it since"
    path.write_text("[mine]\nenable_pcap = no\n[routing]\nenable_pcap=yes\n")
    assert files.undo(tree) == [Change(path, "routing", "enable_pcap", "yes", None)]
    files.uninstall(tree)
    assert path.read_text() == "[mine]\nenable_pcap = no\n[routing]\n"


def test_what_is_set_back_is_what_was_there_last(root: Path) -> None:
    """A value that we wrote is none; one that somebody wrote since is."""
    tree, path = CapeTree(root), root / "conf/cuckoo.conf"

    def want(value: str) -> None:
        change = tree.change("cuckoo", "cuckoo", "max_vmstartup_count", value)
        assert change
        files.change(tree, [change])

    path.write_text("[cuckoo]\nmax_vmstartup_count = 1\n")
    want("2")
    want("3")
    assert [one.new for one in files.undo(tree)] == ["1"]
    path.write_text("[cuckoo]\nmax_vmstartup_count = 0\n")
    want("3")
    assert [one.new for one in files.undo(tree)] == ["0"]


@pytest.mark.parametrize(
    ("keys", "fix"),
    [
        ({"cuckoo": "[cuckoo]\nmachinery = zfsiscsi\n"}, "write another, such as machinery = kvm"),
        (
            {
                "cuckoo": "[cuckoo]\nmachinery = multi\n",
                "multi": "[multi]\nmachinery = kvm,zfsiscsi\n",
            },
            "take zfsiscsi out of it",
        ),
    ],
)
def test_what_cape_loads_is_not_removed(
    cli: Cli, root: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str], fix: str
) -> None:
    """Who wrote the key by hand takes it out by hand, or CAPE would not start."""
    assert cli("install") == 0
    for name, text in keys.items():
        configure(root, name, text)
    before = fingerprint(root)
    for words in ((), ("--apply",)):
        assert cli("uninstall", *words) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "without our files CAPE would not start" in said
        assert fix in said
        assert fingerprint(root) == before


def test_a_later_file_that_names_the_machinery(
    cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("install", "--apply") == 0
    configure(root, "cuckoo", "[cuckoo]\nmachinery = zfsiscsi\n")
    assert cli("uninstall", "--apply") == 1
    assert "later.conf says machinery = zfsiscsi" in " ".join(capsys.readouterr().err.split())
    assert CapeTree(root).shim.exists()


class Killed(BaseException):
    """What no program catches."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """End what goes on before its nth change to a folder."""
    steps = itertools.count(1)

    def stop_or(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: object, **options: object) -> Any:
            if next(steps) == step:
                raise Killed
            return real(*args, **options)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, stop_or(getattr(Path, name)))
        yield


def start_cape(root: Path, at: Path) -> str:
    """Do what CAPE does at its start; return the machinery that it has."""
    tree = CapeTree(root)
    (name,) = tree.machineries
    if name != "kvm":
        assert tree.shim.read_bytes() == SHIM.read_bytes()
        screenshots = tree.get("cuckoo", "cuckoo", "machinery_screenshots")
        assert screenshots != "on", "CAPE does not start: screenshots of a physical host"
        shutil.copyfile(tree.conf, at)  # CAPE's stand-in puts its database beside it
        machinery = load_plugin(at)
        machinery.initialize()
        assert [one.label for one in machinery.machines()] == ["pc1", "pc2"]
        machinery.shutdown()
    return name


@pytest.mark.parametrize("after", ["install", "uninstall"])
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_wherever_it_is_interrupted_cape_starts(
    cli: Cli, root: Path, tmp_path: Path, verb: str, after: str
) -> None:
    """And the same command again, or the other one, does the rest."""
    configure(root, "cuckoo", "[cuckoo]\nmachinery_screenshots = on\n")
    (root / "conf/cuckoo.conf").write_text("[cuckoo]\nmachinery = kvm\n")
    empty, full = tmp_path / "empty", tmp_path / "full"
    shutil.copytree(root, empty)
    assert cli("install", "--apply") == 0
    shutil.copytree(root, full)
    seen = []
    for step in itertools.count(1):
        shutil.rmtree(root)
        shutil.copytree(empty if verb == "install" else full, root)
        try:
            with killed_at(step):
                assert cli(verb, "--apply") == 0
        except Killed:
            seen.append(start_cape(root, tmp_path / "interrupted.conf"))
        else:
            break
        assert cli(after, "--apply") == 0
        assert fingerprint(root) == fingerprint(full if after == "install" else empty), step
    assert seen[0] == ("kvm" if verb == "install" else "zfsiscsi")
    assert len(seen) > 5


def test_cape_reads_what_is_written(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(render(view(), "https://203.0.113.1:8470", "/etc/zfsiscsi/100%token", "/ca"))
    seen = Config(path)
    assert seen.get("zfsiscsi")["machines"] == "pc1,pc2"
    assert seen.get("zfsiscsi")["token_file"] == "/etc/zfsiscsi/100%token"
    assert Options(seen, "zfsiscsi").ca_file == "/ca"
    assert seen.get("pc1")["snapshot"] == "win10@2"
    assert seen.get("pc2")["reserved"] is True


def test_somebody_elses_files_stay(
    cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shim = root / "modules/machinery/zfsiscsi.py"
    shim.write_text("class Mine: ...\n")
    assert cli("install") == 1
    assert "is there, and not ours" in capsys.readouterr().err
    assert cli("uninstall") == 0
    assert shim.exists()


def test_a_service_that_is_not_ours(service: Service, token_file: Path) -> None:
    client = Client(service.url, str(token_file))
    bodies: tuple[object, ...] = ([], {"hosts": 1})
    for body in bodies:
        service.acts["/v1/cape"] = answer(200, body)
        with pytest.raises(ServiceError, match="no view for CAPE"):
            client.cape()


def test_service_and_token_of_the_conf(
    root: Path, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.acts["/v1/cape"] = answer(200, view())
    conf = tmp_path / "zfsiscsi.conf"
    conf.write_text(EXAMPLE.read_text().replace("http://127.0.0.1:8470", service.url))
    assert run(["--conf", str(conf), "cape", "install", "--cape-root", str(root)]) == 1
    assert "token file /etc/zfsiscsi/token" in capsys.readouterr().err


def test_the_plugin_goes_into_capes_environment(
    cli: Cli,
    root: Path,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # with which every interpreter has it
    assert cli("install") == 0
    said = capsys.readouterr().out
    assert f'--cape-python "$(sudo -u cape /etc/poetry/bin/poetry -C {root} env info' in said
    assert "/plugin/" not in [path for _, path, _ in service.calls]
    python = make_environment(root / ".venv", "--without-pip")
    offer(service, wheel.make())
    assert cli("install") == 0
    assert f"installed: {WHEEL} for {python}" in capsys.readouterr().out
    assert found(root, view(), python).get(str(python)) is None
    assert cli("uninstall") == 0
    assert f"to be removed: cuckoo-zfsiscsi for {python}" in capsys.readouterr().out
    assert found(root, view(), python).get(str(python)) is None
    assert cli("uninstall", "--apply") == 0
    assert f"\nremoved: cuckoo-zfsiscsi for {python}" in capsys.readouterr().out
    assert "can't load this package" in found(root, view(), python)[str(python)]
    assert cli("install", "--cape-python", str(root / "none")) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_ca_file_is_for_cape_too(cli: Cli, root: Path) -> None:
    assert cli("install", "--ca-file", "ca.pem") == 0
    conf = (root / "custom/conf/zfsiscsi.conf").read_text()
    assert f"ca_file = {Path.cwd()}/ca.pem\n" in conf


# What check finds.


@pytest.fixture
def installed(cli: Cli, root: Path) -> Path:
    assert cli("install", "--apply") == 0
    return root


def test_nothing_is_wrong(
    cli: Cli, installed: Path, capsys: pytest.CaptureFixture[str], token_file: Path
) -> None:
    os.chown(token_file, installed.stat().st_uid, -1)
    assert cli("check", "--cape-python", sys.executable) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert found(installed, view()) == {}


def test_nothing_is_wrong_on_one_server(
    installed: Path, server: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage, gateway and CAPE are one; its rooter and the firewall run, and a route leads out."""
    seen = view(
        networks=[network(113, "pc1", "pc2", portal="203.0.113.2", gateways=["203.0.113.2"])]
    )
    server.add("eth0", "192.0.2.7/24")
    configure(installed, "routing", "[routing]\nroute = internet\ninternet = eth0\n")
    configure(installed, "cuckoo", f"[cuckoo]\nrooter = {tmp_path}/cuckoo-rooter\n")
    bpf = BPF.replace("203.0.113.1", "203.0.113.2")
    configure(installed, "auxiliary", f"[sniffer]\nbpf = {bpf}\n")
    assert set(found(installed, seen)) == {
        f"CAPE's rooter {tmp_path}/cuckoo-rooter", "net.ipv4.ip_forward = 0",
        "firewall for 203.0.113.2",
    }  # fmt: skip
    server.forward()
    server.protect()
    with rooter.play(tmp_path / "cuckoo-rooter"):
        assert found(installed, seen) == {}


def test_hosts_in_two_networks(
    cli: Cli, root: Path, service: Service, server: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """CAPE listens at all addresses; install tells each host the one in its network."""
    seen = view(networks=[network(113, "pc1"), network(114, "pc2")])
    service.acts["/v1/cape"] = answer(200, seen)
    assert cli("install", "--apply") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "+ip = 203.0.113.2" in said
    assert "pc2 can't reach it: this server has no address in 203.0.114.0/24. Fix: give" in said
    place = "cuckoo.conf [resultserver] ip = 203.0.113.2"
    assert (
        "pc2 can't reach it: this server has no address in 203.0.114.0/24"
        in found(root, seen)[place]
    )
    server.add("vlan114", "203.0.114.2/24")
    assert cli("install", "--apply") == 0
    tree = CapeTree(root)
    assert tree.get("cuckoo", "resultserver", "ip") == ANY
    assert tree.get("zfsiscsi", "pc1", "resultserver_ip") == "203.0.113.2"
    assert tree.get("zfsiscsi", "pc2", "resultserver_ip") == "203.0.114.2"
    assert found(root, seen) == {}


def test_an_interface_of_the_storage_server(installed: Path) -> None:
    seen = view(host(1, interface="vlan20"), host(2, reserved="yes"), interface="boot0")
    (installed / "custom/conf/zfsiscsi.conf").write_text(
        render(seen, "http://203.0.113.1:8470", None)
    )
    configs = check(CapeTree(installed), seen, None, System())
    assert [(one.where, one.fix) for one in configs if "no such interface" in one.what] == [
        (
            f"[{label}] interface = {name}",
            f"interface = br-lab in [{section}] of the service's zfsiscsi.conf",
        )
        for label, name, section in (("pc1", "vlan20", "pc1"), ("pc2", "boot0", "zfsiscsi"))
    ]


def test_without_an_installation(cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("check") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "is missing: CAPE can't load the machinery" in said
    assert "the service has this host, CAPE has not" in said
    assert f"zfsiscsi cape install --cape-root {root}" in said


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"ip": "203.0.113.99"}, "[pc1] ip", "CAPE has 203.0.113.11, the service 203.0.113.99"),
        ({"snapshot": "win11"}, "[pc1] snapshot", "CAPE has win10@2, the service win11"),
        ({"tags": "win10"}, "[pc1] tags", "CAPE has win10,x64"),
        ({"reserved": "yes"}, "[pc1] reserved", "CAPE has nothing, the service yes"),
        ({"label": "pc9"}, "machines: pc9", "the service has this host, CAPE has not"),
        ({"label": "pc9"}, "machines: pc1", "CAPE has this host, the service has not"),
    ],
)
def test_hosts_that_differ(installed: Path, change: dict[str, str], where: str, what: str) -> None:
    seen = found(installed, view(host(1, **change), host(2, reserved="yes")))
    assert any(where in place and what in text for place, text in seen.items()), seen


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("cuckoo", "[cuckoo]\nmachinery = physical\n", "machinery = physical"),
        ("cuckoo", "[cuckoo]\nmachinery = multi\n", "multi.conf [multi] machinery = kvm"),
        ("cuckoo", "[cuckoo]\nmachinery = multi\n", "[cuckoo] fail_unserviceable = on"),
        ("cuckoo", "[cuckoo]\nmax_vmstartup_count = 0\n", "max_vmstartup_count = 0"),
        ("cuckoo", "[cuckoo]\nmax_vmstartup_count = x\n", "max_vmstartup_count = x"),
        ("cuckoo", "[cuckoo]\nmax_machines_count = 1\n", "max_machines_count = 1"),
        ("cuckoo", "[cuckoo]\nmachinery_screenshots = on\n", "machinery_screenshots = on"),
        ("cuckoo", "[cuckoo]\nscaling_semaphore = yes\n", "scaling_semaphore = yes"),
        ("cuckoo", "[timeouts]\nvm_state = 60\n", "vm_state = 60"),
        ("cuckoo", "[resultserver]\nip = 192.168.1.1\n", "[resultserver] ip = 192.168.1.1"),
        ("cuckoo", "[resultserver]\nip = nonsense\n", "[resultserver] ip = nonsense"),
        ("cuckoo", "[resultserver]\nport = 2043\n", "[resultserver] port = 2043"),
        ("cuckoo", "[cuckoo]\nmemory_dump = yes\n", "[cuckoo] memory_dump = yes"),
        ("processing", "[memory]\nenabled = yes\n", "[memory] enabled = yes"),
        ("auxiliary", "[sniffer]\nbpf =\n", "[sniffer] bpf"),
        ("auxiliary", "[sniffer]\nenabled = no\n", "[sniffer] enabled = no"),
        ("routing", "[routing]\nenable_pcap = no\n", "[routing] enable_pcap = no"),
        ("zfsiscsi", "[zfsiscsi]\ninterface = virbr0\n", "[zfsiscsi] interface"),
        ("zfsiscsi", "[zfsiscsi]\nstart_timeout = 7\n", "[zfsiscsi] start_timeout"),
        ("zfsiscsi", "[pc1]\ninterface = virbr0\n", "[pc1] interface"),
        ("zfsiscsi", "[pc1]\nresultserver_port = 2043\n", "[pc1] resultserver_port"),
        ("zfsiscsi", "[zfsiscsi]\ntoken_file = /no/token\n", "token_file = /no/token"),
    ],
)
def test_capes_other_files(installed: Path, name: str, text: str, key: str) -> None:
    configure(installed, name, text)
    seen = found(installed, view())
    assert any(key in place for place in seen), seen


@pytest.mark.parametrize(("seconds", "fits"), [(75.0, True), (76.0, False)])
def test_capes_patience_holds_a_start_and_a_stop(
    installed: Path, seconds: float, fits: bool
) -> None:
    """Start_timeout is 300 s, the margins are 25 s; vm_state is 300 s, stuck_seconds 100 s."""
    seen = found(installed, view(stop_timeout=seconds))
    assert any("vm_state" in place for place in seen) is not fits


def test_multi_with_us_in_it_is_right(installed: Path) -> None:
    path = installed / "custom/conf/cuckoo.conf"
    new = "machinery = multi\nfail_unserviceable = no"
    path.write_text(path.read_text().replace("machinery = zfsiscsi", new))
    (installed / "custom/conf/multi.conf").write_text("[multi]\nmachinery = kvm, zfsiscsi\n")
    assert found(installed, view()) == {}


def test_linux_hosts_need_a_switch(installed: Path) -> None:
    linux = host(1, platform="linux", tags="win10,x64")
    seen = found(installed, view(linux, host(2, reserved="yes")))
    assert any("[linux] enabled" in place for place in seen)


def test_shim_of_another_version(installed: Path) -> None:
    shim = installed / "modules/machinery/zfsiscsi.py"
    shim.write_text(shim.read_text() + "# older\n")
    assert found(installed, view()) == {str(shim): "is not the one of this version"}


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo 0.0.1", f"has version 0.0.1, not {__version__}"),
        ("echo 'ModuleNotFoundError: no requests' >&2; exit 1", "can't load this package: Module"),
    ],
)
def test_capes_python(installed: Path, tmp_path: Path, script: str, what: str) -> None:
    python = make_python(tmp_path / "python", script)
    assert what in found(installed, view(), python)[str(python)]
    assert "does not run" in found(installed, view(), tmp_path / "none")[str(tmp_path / "none")]
    fixes = [finding.fix for finding in check(CapeTree(installed), view(), python, System())]
    assert f"zfsiscsi cape install --cape-root {installed} --cape-python {python}" in fixes


def test_token_that_cape_can_not_read(installed: Path, token_file: Path) -> None:
    place = f"zfsiscsi.conf token_file = {token_file}"
    token_file.chmod(0o644)
    assert found(installed, view()) == {place: "others can read it"}
    os.chown(token_file, 12345, -1)
    assert found(installed, view()) == {place: "CAPE's user can't read it: it does not own it"}


def test_files_that_cape_can_not_read(installed: Path) -> None:
    conf = installed / "custom/conf/zfsiscsi.conf"
    conf.chmod(0o600)
    assert found(installed, view()) == {}
    os.chown(conf, 12345, 12345)
    assert found(installed, view()) == {str(conf): "CAPE's user can't read it"}


def test_two_files_for_one(installed: Path) -> None:
    (installed / "conf/zfsiscsi.conf").write_text("[zfsiscsi]\n")
    assert "CAPE reads 2 files" in found(installed, view())["zfsiscsi.conf"]
    assert checks.OURS
