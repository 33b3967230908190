from __future__ import annotations

import xml.etree.ElementTree as ET

from cuckoo_zfsiscsi.measure.chart import LEFT, draw
from cuckoo_zfsiscsi.measure.recovery import Measurement, Recovery

SVG = "{http://www.w3.org/2000/svg}"


def parsed(*times: float, host: str = "pc1") -> ET.Element:
    runs = [Recovery(number, time) for number, time in enumerate(times, 1)]
    text = draw(Measurement(host, "10.99.0.11", "warm", "win10", 3, runs))
    return ET.fromstring(text)  # noqa: S314 - our own


def widths(root: ET.Element) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"ours": [], "paper": []}
    for rect in root.iter(f"{SVG}rect"):
        if "class" in rect.attrib:
            found[rect.attrib["class"]].append(float(rect.attrib["width"]))
    return found


def texts(root: ET.Element) -> list[str]:
    return [str(text.text) for text in root.iter(f"{SVG}text")]


def test_bars_in_order_of_their_means() -> None:
    root = parsed(9, 10, 11)
    found = widths(root)
    esxi, kvm, freeze, fog, zfs = found["paper"]
    assert esxi < kvm < freeze < zfs < fog
    assert found["ours"] == [esxi]
    assert len(list(root.iter(f"{SVG}circle"))) == 18
    assert "10.0 s" in texts(root)
    assert "627.3 s" in texts(root)


def test_very_short_and_very_long_stay_inside() -> None:
    root = parsed(0.02, 99999)
    for circle in root.iter(f"{SVG}circle"):
        assert LEFT <= float(circle.attrib["cx"]) <= 660


def test_a_name_is_escaped() -> None:
    assert "<b>&, warm" in texts(parsed(1, host="<b>&"))


def test_without_runs() -> None:
    assert widths(parsed())["ours"] == []
