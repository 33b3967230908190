from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import packages
from cuckoo_zfsiscsi.lab.appliance import kernel
from cuckoo_zfsiscsi.lab.appliance.kernel import Versions
from cuckoo_zfsiscsi.lab.packages import Kernel
from cuckoo_zfsiscsi.lab.steps import Steps

ABI = "6.9.0-1-amd64"
VERSIONS = Versions(Kernel(f"linux-image-{ABI}", "6.9.1-1"), "2.9-1")
HEADERS = "Package: x\nDepends: linux-headers-6.9.0-1-common (= 6.9.1-1), linux-kbuild-6.9, gcc\n"
CONFIGURE = """\
#!/bin/sh
# What the real one is told: where the headers are, after the unpacking
[ "$1" = --with-config=kernel ] && [ -f "${2#--with-linux=}/Makefile" ] || exit 3
grep -q "^include ${2#--with-linux=}/Makefile" "${3#--with-linux-obj=}/Makefile" || exit 4
mkdir -p build/conftest && cp /bin/true build/conftest/conftest.ko
"""
MAKEFILE = "all:\n\tcp /bin/true module/zfs/zfs.ko; cp /bin/true module/spl/spl.ko\n"


def deb(folder: Path, name: str, files: dict[str, str]) -> Path:
    tree = folder / name
    control = "Package: {}\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\n"
    files = {**files, "DEBIAN/control": control.format(name) + "Description: for a test\n"}
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
        (tree / path).chmod(0o755)
    made = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", tree, made], check=True, stdout=subprocess.DEVNULL)
    return made


@pytest.fixture
def source() -> dict[str, str]:
    """Return the files of ZFS' source package."""
    z = "usr/src/zfs-2.9"
    folders = {f"{z}/module/zfs/x.c": "", f"{z}/module/spl/x.c": ""}
    return {f"{z}/configure": CONFIGURE, f"{z}/Makefile": MAKEFILE, **folders}


@pytest.fixture
def asked(tmp_path: Path, source: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what apt is asked to download; it has small packages of the real ones' layout."""
    asked: list[str] = []
    common = "usr/src/linux-headers-6.9.0-1-common"

    def download(names: list[str], _folder: Path, *, view: list[str]) -> list[Path]:
        asked.extend(names)
        assert view == ["-v"]
        files = {f"usr/src/linux-headers-{ABI}/Makefile": f"include /{common}/Makefile\n"}
        files[f"{common}/Makefile"] = "\n"
        return [deb(tmp_path, "headers", files), deb(tmp_path, "zfs", source)]

    monkeypatch.setattr(packages, "show", lambda _name, view: HEADERS)
    monkeypatch.setattr(packages, "download", download)
    return asked


def steps(folder: Path, said: list[str]) -> Steps:
    return Steps("building ZFS", kernel.STEPS, said.append, folder)


def test_build_once(tmp_path: Path, asked: list[str]) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    said: list[str] = []
    modules = kernel.build(VERSIONS, cache, ["-v"], steps(tmp_path, said))
    assert modules.parent == cache
    assert sorted(path.name for path in modules.iterdir()) == ["spl.ko", "zfs.ko"]
    needs = ["linux-headers-6.9.0-1-common", "linux-kbuild-6.9"]
    assert asked == [f"linux-headers-{ABI}", *needs, "zfs-dkms"]
    assert [line.rpartition(": ")[2] for line in said[1:]] == list(kernel.STEPS)
    assert list(cache.iterdir()) == [modules] == [kernel.place(VERSIONS, cache)]
    before = len(said)
    assert kernel.build(VERSIONS, cache, ["-v"], steps(tmp_path, said)) == modules
    assert len(said) == before + 1, "it says what there is to do, and does nothing"


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("configure", "#!/bin/sh\necho no gcc >&2; exit 1\n", "can't be built.*no gcc"),
        ("Makefile", "all:\n\tfalse\n", "can't be built.*Error 1"),
        ("Makefile", "all:\n\ttrue\n", "made no zfs.ko"),
    ],
)
def test_a_build_that_fails(
    tmp_path: Path, source: dict[str, str], file: str, content: str, message: str
) -> None:
    source[f"usr/src/zfs-2.9/{file}"] = content
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(LabError, match=message):
        kernel.build(VERSIONS, cache, ["-v"], steps(tmp_path, []))
    assert not list(cache.iterdir())


@pytest.mark.usefixtures("asked")
def test_packages_of_another_layout(tmp_path: Path, source: dict[str, str]) -> None:
    source.clear()
    source["usr/share/x"] = ""
    with pytest.raises(LabError, match="not laid out as expected"):
        kernel.build(VERSIONS, tmp_path, ["-v"], steps(tmp_path, []))


def test_every_input_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {VERSIONS.key, replace(VERSIONS, zfs="2.9-2").key}
    keys.add(replace(VERSIONS, kernel=Kernel(f"linux-image-{ABI}", "6.9.1-2")).key)
    monkeypatch.setattr(kernel, "MAKE", ("make",))
    keys.add(VERSIONS.key)
    assert len(keys) == 4


def test_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {
        kernel.PACKAGE: f"Version: 1\nDepends: linux-image-{ABI} (= 6.9.1-1)\n",
        kernel.SOURCE: "Package: zfs-dkms\nVersion: 2.9-1\n",
    }
    monkeypatch.setattr(packages, "show", lambda name, view: about[name])
    assert kernel.resolve([]) == VERSIONS
    about[kernel.SOURCE] = "Package: zfs-dkms\n"
    with pytest.raises(LabError, match="no version of zfs-dkms"):
        kernel.resolve([])
