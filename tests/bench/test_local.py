"""The deploy server that bench.recovery compares with: what a netbooted host would get of it."""

from __future__ import annotations

import gzip
import os
import subprocess
from functools import partial
from pathlib import Path

import requests

from bench.local import DeployServer
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.guest_disk import BOOT_START
from cuckoo_zfsiscsi.lab.static import HTTP_PORT
from cuckoo_zfsiscsi.lab.watch import inside
from tests.waiting import HANG

URL = f"http://{net.SERVER.ip}:{HTTP_PORT}"


def make_image(folder: Path) -> Path:
    """Make a disk whose boot partition has a kernel and an initrd."""
    image = folder / "image.raw"
    image.write_bytes(bytes(8 << 20))
    at = f"{image}@@{BOOT_START}"
    subprocess.run(["mformat", "-i", at, "-T", "8192", "::"], check=True)
    for name in ("vmlinuz", "initrd"):
        (folder / name).write_text(name)
        subprocess.run(["mcopy", "-i", at, str(folder / name), f"::/{name}"], check=True)
    return image


def test_it_deploys_once(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    with net.Network(f"zfsiscsi-test-local-{os.getpid()}") as network:
        server = DeployServer(image, tmp_path / "server", network)

        def get(name: str) -> requests.Response:
            return inside(network, partial(requests.get, f"{URL}/{name}", timeout=HANG))

        with server.serving():
            assert "exit" in get("boot.ipxe").text
            server.pending = True
            assert f"deploy={URL}" in get("boot.ipxe").text
            assert get("vmlinuz").text == "vmlinuz"
            assert gzip.decompress(get("image.gz").content) == image.read_bytes()
            assert get("done").text == "ok"
            assert server.deployed == 1
            assert "exit" in get("boot.ipxe").text
            assert get("other").status_code == 404
