"""Resident memory of the service with many hosts, each behind a BMC simulator of its own.

    .venv/bin/python -m bench.memory [--hosts 50] [--json]

Every host is proved off over real IPMI, fenced, and given a clean disk and a spare by the real
service; then the service's resident set is read (VmRSS and VmHWM of /proc/PID/status).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import Network
from tests.faults import conf
from tests.faults.conf import PASSWORD

TIMEOUT = 180.0


def measure(hosts: int, at: Path) -> dict[str, float]:
    """Run the service with so many hosts; return MiB resident and seconds until all are clean."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(f"zfsiscsi-memory-{os.getpid()}", hosts=hosts))
        bmcs = [
            Bmc(Machine(at / f"host{number}"), number, network, password=PASSWORD)
            for number in range(1, hosts + 1)
        ]
        for bmc in bmcs:
            bmc.machine.state.mkdir()
            stack.enter_context(bmc)
        command = [*network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        command += ["--conf", str(_write_files(at, bmcs))]
        golden = ["image", "import", "golden", str(at / "golden.raw")]
        subprocess.run([*command, *golden], check=True, stdout=subprocess.DEVNULL)
        stack.callback(subprocess.run, ["chattr", "-R", "-f", "-i", str(at / "store")], check=False)
        begin = time.monotonic()
        log = stack.enter_context((at / "log").open("wb"))
        # A test's coverage measurement would be measured too.
        env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
        service = subprocess.Popen([*command, "serve"], stdout=log, stderr=log, env=env)
        stack.callback(service.wait)
        stack.callback(service.terminate)
        _wait_until_clean(Client(f"unix://{at}/api.sock"), hosts)
        status = Path(f"/proc/{service.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {
            "hosts": hosts,
            "resident_mib": int(fields["VmRSS"].split()[0]) / 1024,
            "peak_mib": int(fields["VmHWM"].split()[0]) / 1024,
            "threads": int(fields["Threads"]),
            "all_clean_s": time.monotonic() - begin,
        }


def _write_files(at: Path, bmcs: list[Bmc]) -> Path:
    (at / "golden.raw").write_bytes(os.urandom(1 << 20))
    return conf.write(at, {bmc.number: bmc.url for bmc in bmcs})


def _wait_until_clean(client: Client, hosts: int) -> None:
    end = time.monotonic() + TIMEOUT
    states: list[str] = []
    while states.count("clean") < hosts:
        if time.monotonic() > end:
            raise TimeoutError(f"not all clean after {TIMEOUT:.0f} s: {states}")
        time.sleep(0.2)
        with contextlib.suppress(ZfsIscsiError):
            states = [str(host["state"]) for host in client.hosts()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as at:
        result = measure(options.hosts, Path(at))
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:14} {value:8.1f}")


if __name__ == "__main__":
    main()
