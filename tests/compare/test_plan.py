from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import compare
from cuckoo_zfsiscsi.compare.plan import BASELINE, Plan, read_plan
from cuckoo_zfsiscsi.errors import CompareError

WritePlan = Callable[..., Plan]


def test_plan(write_plan: WritePlan) -> None:
    plan = write_plan(2)
    assert [sample.name for sample in plan.samples] == ["hides", "loud"]
    assert list(plan.files) == [BASELINE, "hides", "loud"]
    assert plan.options == {"timeout": "60", "route": "none"}
    kvm, metal = plan.environments
    assert (kvm.machine, kvm.tags, kvm.physical) == ("win7-kvm", (), False)
    assert (metal.machine, metal.tags, metal.physical) == ("", ("physical", "win7"), True)
    assert [cell.key for cell in plan.cells(kvm)][:4] == [
        "(baseline)|kvm|1", "hides|kvm|1", "loud|kvm|1", "(baseline)|kvm|2",
    ]  # fmt: skip


def test_what_makes_it_another_comparison(write_plan: WritePlan, tmp_path: Path) -> None:
    first = write_plan().fingerprint
    assert write_plan(1, lambda t: t.replace("rate = 6000", "rate = 5")).fingerprint == first
    assert write_plan(2).fingerprint != first
    assert write_plan(1, lambda t: t.replace("timeout = 60", "timeout = 61")).fingerprint != first
    (tmp_path / "loud").write_text("other")
    assert write_plan().fingerprint != first


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[samples]", "[Samples]", "[samples]: the section is missing"),
        ("hides = hides\nloud = loud", "", "[samples]: names no sample"),
        ("hides = hides", "hides = nowhere", "[samples] hides: .*nowhere is no such file"),
        ("hides = hides", "a|b = hides", "[samples] a|b: is no name of a sample"),
        ("baseline = benign", "", "[compare] baseline: is missing.*baseline = off"),
        ("repeat = 1", "repeat = 0", "[compare] repeat: '0' is not a whole number from 1 to 100"),
        ("repeat = 1", "repeats = 1", "[compare] repeats: is no key.*did you mean repeat?"),
        ("http://cape.test:8000", "cape.test", "[kvm] server: 'cape.test' is no URL"),
        ("http://cape", "http://u:p@cape", "[kvm] server: .* is no URL"),
        ("machine = win7-kvm", "", "[kvm] machine: give either machine or tags"),
        ("machine = win7-kvm", "machine = x\ntags = y", "[kvm] machine: give either"),
        ("kind = virtual", "kind = vm", "[kvm] kind: 'vm' is neither"),
        ("rate = 6000", "rate = fast", "[kvm] rate: 'fast' is not a whole number"),
        ("kind = virtual", "kind = virtual\ntoken_file = t", "token_file: is another one"),
        ("[kvm]", "[k|m]", "is no name of an environment"),
        ("[compare]", "[compare", "compare.ini"),
    ],
)
def test_mistakes(old: str, new: str, said: str, write_plan: WritePlan) -> None:
    with pytest.raises(CompareError) as failed:
        write_plan(1, lambda text: text.replace(old, new))
    pattern = ".*".join(re.escape(part) for part in said.split(".*"))
    assert re.search(pattern, str(failed.value)), str(failed.value)
    assert failed.value.fix


def test_no_environment(write_plan: WritePlan) -> None:
    with pytest.raises(CompareError, match="there is no environment"):
        write_plan(1, lambda text: text[: text.index("[kvm]")])


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="--example"):
        read_plan(tmp_path / "none.ini")


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    text = Path(str(compare.__file__)).with_name("example.ini").read_text()
    (tmp_path / "samples").mkdir()
    for name in ("benign.exe", "1.exe", "2.exe"):
        (tmp_path / "samples" / name).write_text(name)
    (tmp_path / "compare.ini").write_text(text)
    plan = read_plan(tmp_path / "compare.ini")
    assert [env.name for env in plan.environments] == ["KVM", "physical"]
    assert plan.samples[0].name == "ursnif 1"
    assert plan.options["enforce_timeout"] == "1"
