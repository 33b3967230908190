"""The dashboard in a real browser, with real hosts behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from cuckoo_zfsiscsi.errors import PowerError
from tests.clocks import RealClock
from tests.service.dashboard.browser import Visit, chromium, served
from tests.service.dashboard.conftest import TOKEN, application
from tests.service.many_hosts import ManyHosts

Opens = Callable[..., Visit]
BOOT = {"rpc": 0.1, "agent": 0.2}
"""As fast as can be: tests that look at a boot hold it until they have seen it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def many(tmp_path: Path, clock: RealClock) -> Iterator[ManyHosts]:
    made = ManyHosts(12, tmp_path, BOOT, clock)
    made.open()
    yield made
    for world in made.worlds.values():
        world.fail.clear()
    made.close()


@pytest.fixture
def url(many: ManyHosts) -> Iterator[str]:
    with served(application(many)) as url:
        yield url


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Opens]:
    """Open a page in a window of its own."""
    made: list[Visit] = []

    def visit(**options: Any) -> Visit:
        made.append(Visit(browser, url, **options))
        return made[-1]

    yield visit
    for one in made:
        one.page.context.close()


def card(page: Page, label: str, state: str) -> Any:
    return page.locator(f"#host-{label}[data-state={state}]")


def test_by_keyboard_alone(visit: Opens, many: ManyHosts) -> None:
    seen = visit()
    page = seen.page
    page.goto("/hosts/pc001")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#hosts")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("PC004")
    expect(page.locator(".host:visible")).to_have_count(1)
    expect(page.locator("#found")).to_have_text("1 of 12")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="pc004")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/pc004")
    page.get_by_role("button", name="Reset…").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Reset pc004?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    before = len(many.worlds["pc004"].journal)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert len(many.worlds["pc004"].journal) == before, "nothing happens without a yes"
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Reset", exact=True).press("Enter")
    expect(page.get_by_text("proved again, from power to disk")).to_be_visible()
    journal = many.worlds["pc004"].journal
    many.clock.until(lambda: "swap" in journal[before:], "the reset", lambda: journal[before:])
    assert seen.wrong == []


def test_what_changes_is_shown_at_once(visit: Opens, many: ManyHosts) -> None:
    """A whole run, and then a failure, without a reload, and with the focus where it was."""
    seen = visit()
    page = seen.log_in()
    page.evaluate("document.body.dataset.loaded = 'once'")
    page.get_by_role("link", name="pc002").focus()
    host, world = many.host("pc002"), many.worlds["pc002"]
    world.answers.discard("rpc")
    run = host.start("<b>77</b>", None)
    booting = card(page, "pc002", "booting")
    expect(booting).to_contain_text("waiting for rpc")
    expect(booting.locator("progress")).to_be_visible()
    world.answers.add("rpc")
    recovery = many.clock.result(run.booted).recovery_s
    running = card(page, "pc002", "running")
    expect(running).to_contain_text("task <b>77</b>")
    label = running.get_by_role("img").get_attribute("aria-label") or ""
    assert label.startswith(f"last recovery {recovery:.1f} s")
    expect(page.locator(".summary")).to_contain_text("1 ▶ running")
    expect(page.get_by_role("link", name="pc002")).to_be_focused()
    world.fail["off"] = PowerError("the BMC is silent", fix="ping it")
    host.stop()
    expect(card(page, "pc002", "quarantined")).to_contain_text("the BMC is silent")
    expect(page.locator("#say")).to_have_text("pc002 is quarantined")
    expect(page.locator(".trouble")).to_contain_text("pc002")
    assert page.evaluate("document.body.dataset.loaded") == "once"
    assert seen.wrong == []


def test_the_page_of_a_host_is_live(visit: Opens, many: ManyHosts) -> None:
    seen = visit()
    page = seen.log_in()
    page.goto("/hosts/pc003")
    expect(page.locator("#link")).to_have_text("live")
    page.get_by_role("button", name="Ask for power…").focus()
    many.worlds["pc003"].answers.discard("rpc")
    many.host("pc003").start("77", None)
    expect(page.locator("progress")).to_be_visible()
    many.worlds["pc003"].answers.add("rpc")
    expect(page.locator(".about")).to_contain_text("task 77")
    expect(page.locator(".about .state")).to_contain_text("running")
    expect(page.locator(".timeline tbody tr")).to_have_count(10)
    expect(page.get_by_role("button", name="Ask for power…")).to_be_focused()
    many.host("pc003").stop()
    expect(page.locator("#live")).to_contain_text("off: it is (fake://)")
    expect(page.get_by_role("row", name="77", exact=False)).to_be_visible()
    assert seen.wrong == []


def test_a_session_that_ends(visit: Opens, many: ManyHosts) -> None:
    seen = visit()
    page = seen.log_in()
    other = page.context.new_page()
    other.goto("/storage")
    other.get_by_role("button", name="Log out").click()
    other.wait_for_url("**/login")
    many.host("pc001").maintenance(on=True)  # the stream sees it at its next word
    page.wait_for_url("**/login")
    assert seen.wrong == []


@pytest.mark.parametrize(
    ("scheme", "size"),
    [("light", (320, 700)), ("dark", (3840, 2160))],
    ids=["phone", "wall"],
)
def test_for_everyone(visit: Opens, many: ManyHosts, scheme: Any, size: tuple[int, int]) -> None:
    """Every state on every page: no fault by axe's rules, contrast included, and no side-scroll."""
    many.worlds["pc001"].fail["off"] = PowerError("silent " + "x" * 200, fix="ping it")
    many.host("pc001").reset()
    many.host("pc002").maintenance(on=True)
    running = many.host("pc003").start("77", None)
    many.clock.result(running.booted)
    seen = visit(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page = seen.page
    page.goto("/")
    check(page)
    seen.log_in()
    many.worlds["pc004"].answers.discard("rpc")
    many.host("pc004").start("78", None)
    for label, state in (("pc001", "quarantined"), ("pc002", "maintenance"), ("pc004", "booting")):
        expect(card(page, label, state)).to_be_visible()
    check(page)
    for path in ("/hosts/pc001", "/hosts/pc003", "/storage", "/docs", "/hosts/none"):
        page.goto(path)
        check(page)
    page.goto("/hosts/pc003")
    page.get_by_role("button", name="Take out of service…").click()
    check(page)
    assert seen.wrong == []


def check(page: Page) -> None:
    found = Axe().run(page)
    faults = [
        f"{fault['id']}: {node['html']} {node['failureSummary']}"
        for fault in found.response["violations"]
        for node in fault["nodes"]
    ]
    assert faults == [], page.url
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0, f"{page.url} is wider than the window"
