from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.tree import CapeTree, Change, apply, diff, write
from cuckoo_zfsiscsi.errors import ConfigError
from tests.cape.tree import configure, make


@pytest.fixture
def tree(tmp_path: Path) -> CapeTree:
    return CapeTree(make(tmp_path / "CAPEv2"), tmp_path / "extra")


def test_no_cape_tree(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no CAPE tree: it has no cuckoo\.py"):
        CapeTree(tmp_path)


def test_files_are_read_in_capes_order(tree: CapeTree, tmp_path: Path) -> None:
    layers = (
        "conf/cuckoo.conf", "conf/cuckoo.conf.d/a.conf", "conf/cuckoo.conf.d/b.conf",
        "custom/conf/cuckoo.conf", "custom/conf/cuckoo.conf.d/a.conf", "../extra/cuckoo.conf",
    )  # fmt: skip
    assert tree.get("cuckoo", "cuckoo", "machinery") == "kvm"
    for number, layer in enumerate(layers):
        path = tree.root / layer
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[cuckoo]\nmachinery = layer{number}\n")
        assert tree.get("cuckoo", "cuckoo", "machinery") == f"layer{number}", layer
    assert tree.get("cuckoo", "timeouts", "vm_state") == "300"
    assert tree.get("cuckoo", "nothing", "here", "default") == "default"
    changed = tree.change("cuckoo", "cuckoo", "machinery", "zfsiscsi")
    assert changed
    assert changed.path == tmp_path / "CAPEv2/../extra/cuckoo.conf" or (
        changed.path == tmp_path / "extra/cuckoo.conf"
    )
    assert tree.change("cuckoo", "cuckoo", "machinery", "layer5") is None


def test_what_is_only_a_default_is_changed_in_custom(tree: CapeTree) -> None:
    changed = tree.change("cuckoo", "timeouts", "vm_state", "400")
    assert changed == Change(
        tree.root / "custom/conf/cuckoo.conf", "timeouts", "vm_state", None, "400"
    )


def test_environment_as_cape_has_it(tree: CapeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "203.0.113.%7")
    (tree.root / "conf/cuckoo.conf").write_text("[resultserver]\nip = %(ENV:WHERE)s\n")
    assert tree.get("cuckoo", "resultserver", "ip") == "203.0.113.%7"


@pytest.mark.parametrize("text", ["no section", "[a]\nx = %(y)s\n", "[a]\n[a]\n"])
def test_mistakes_are_told(tree: CapeTree, text: str) -> None:
    (tree.root / "conf/cuckoo.conf").write_text(text)
    with pytest.raises(ConfigError, match=r"conf/cuckoo\.conf has a mistake"):
        tree.read("cuckoo")


TEXT = """\
# about
[one]
# the key
key = 1
other = 2

[two]
key = 3"""


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("one", "key", "9"), TEXT.replace("key = 1", "key = 9") + "\n"),
        (("two", "key", "9"), TEXT.replace("key = 3", "key = 9") + "\n"),
        (("two", "key", None), TEXT.replace("key = 3", "")),
        (("one", "new", "9"), TEXT.replace("other = 2", "other = 2\nnew = 9") + "\n"),
        (("two", "new", "9"), TEXT + "\nnew = 9\n"),
        (("three", "new", "9"), TEXT + "\n\n[three]\nnew = 9\n"),
        (("three", "new", None), TEXT + "\n"),
    ],
)
def test_one_key_is_changed_and_nothing_else(
    change: tuple[str, str, str | None], wanted: str
) -> None:
    section, key, new = change
    assert apply(TEXT, Change(Path("x"), section, key, None, new)) == wanted


def test_a_value_of_several_lines_goes_as_a_whole() -> None:
    text = "[one]\nkey = not arp\n    and not port 80\nother = 2\n"
    change = Change(Path("x"), "one", "key", "not arp\nand not port 80", "9")
    changed = apply(text, change)
    assert changed == "[one]\nkey = 9\nother = 2\n"
    assert apply(changed, Change(Path("x"), "one", "key", "9", change.old)) == text


@pytest.mark.parametrize("text", ["[one]\n  key = 1\n", "[one]\nkey = 1\n\n  2\n", "key = 1\n"])
def test_what_no_program_should_change(text: str) -> None:
    with pytest.raises(ConfigError, match=r"key in \[one\] of x can't be changed by a program"):
        apply(text, Change(Path("x"), "one", "key", None, "9"))


def test_percent_is_written_as_cape_reads_it(tree: CapeTree) -> None:
    path = tree.root / "conf/auxiliary.conf"
    path.write_text("[sniffer]\nbpf = len > 10%%\n")
    change = tree.change("auxiliary", "sniffer", "bpf", "len > 10% and not arp")
    assert change
    assert change.old == "len > 10%%", "as in the file: what is set back is the same"
    path.write_text(apply(path.read_text(), change))
    assert tree.get("auxiliary", "sniffer", "bpf") == "len > 10% and not arp"


def test_machineries(tree: CapeTree) -> None:
    assert tree.machineries == ["kvm"]
    configure(tree.root, "cuckoo", "[cuckoo]\nmachinery = multi\n")
    configure(tree.root, "multi", "[multi]\nmachinery = kvm, zfsiscsi\n")
    assert tree.machineries == ["kvm", "zfsiscsi"]
    assert tree.place("multi", "multi", "machinery").name == "later.conf"


def test_a_new_file() -> None:
    assert apply("", Change(Path("x"), "one", "key", None, "1")) == "[one]\nkey = 1\n"


def test_diff() -> None:
    changes = [
        Change(Path("x.conf"), "one", "key", "1", "2"),
        Change(Path("y.conf"), "two", "key", None, "2"),
        Change(Path("y.conf"), "two", "key", "2", None),
    ]
    assert list(diff(changes)) == [
        "x.conf [one]", "-key = 1", "+key = 2", "y.conf [two]", "+key = 2", "y.conf [two]",
        "-key = 2",
    ]  # fmt: skip


def test_a_file_keeps_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.touch(0o600)
    write(path, "text")
    assert path.read_text() == "text"
    assert path.stat().st_mode & 0o777 == 0o600
    write(tmp_path / "new/b.conf", "text")
    assert (tmp_path / "new/b.conf").stat().st_mode & 0o777 == 0o644
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.conf", "new"]


def test_what_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"can't be written: (Not a directory|File exists)"):
        write(tmp_path / "file/b.conf", "text")
