"""Pages of `explain` and `--trace` in a real browser: sizes, colours, links, and words that would be more than text.

GOSUDACON_TEST_SCREENSHOTS=DIR keeps pictures of what was seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.browser import Browser, seen
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("program:chromium", "runtime:gosudacon")
WIDE, NARROW = 1280, 390
SIZES = [*itertools.product((WIDE, NARROW), ("light", "dark"))]
WHITE, DARK = "rgb(255, 255, 255)", "rgb(13, 17, 23)"

# Elements that reach beyond the window, outside of what has its own scroll bar.
BEYOND = """
[...document.querySelectorAll("body *")].filter((element) => !element.closest(".scroll") &&
  element.getBoundingClientRect().right > innerWidth + 0.5).map((element) => element.outerHTML.slice(0, 80))
"""
# For each arrow: how far its ends are from the heads of the steps that it joins.
ARROWS = """
[...document.querySelectorAll(".arrow")].map((arrow) => {
  const box = arrow.getBoundingClientRect();
  const heads = [...document.querySelectorAll(".step")].map((step) => step.getBoundingClientRect().top + 14);
  const nearest = (at) => Math.min(...heads.map((head) => Math.abs(head - at)));
  return [nearest(box.top), nearest(box.bottom), box.height];
})
"""

# Texts of the picture of a plan that reach beyond it, or beyond their lane.
OUTSIDE = """
[...document.querySelectorAll("text")].filter((text) => {
  const box = text.getBBox(), lane = text.matches("[class]") || box.x > 400 ? 860 : 372;
  return box.x + box.width > lane;
}).map((text) => text.textContent)
"""


def box(browser: Browser, selector: str) -> dict[str, float]:
    """Where an element is drawn."""
    found: dict[str, float] = browser.ask(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
    return found


def visible(browser: Browser, selector: str) -> bool:
    """Whether an element is within the window, and within the part of it that it belongs to."""
    place = box(browser, selector)
    return 0 <= place["top"] < 900 and place["height"] > 0


def eventually_visible(browser: Browser, selector: str) -> None:
    """Wait for it: a link is followed when the browser comes to it."""
    eventually(lambda: visible(browser, selector), what=f"{selector} in sight")


def traced(runtime: Runtime, bundle: Bundle, scratch: Path) -> tuple[Path, Path, Path]:
    """A container is run; its plan as a page and a picture with times, and the trace as a page."""
    bundle.set("hooks", {"createRuntime": [{"path": "/bin/true"}]}).set("process.args", ["true"])
    for name in ("trace.json", "trace.html"):
        runtime.call("run", "--trace", scratch / name, "--bundle", bundle.path, bundle.id)
    made = []
    for kind in ("html", "svg"):
        words = ("--id", bundle.id, "--format", kind, "--timings", scratch / "trace.json", bundle.path)
        made.append(scratch / f"plan.{kind}")
        made[-1].write_text(runtime.call("explain", *words).stdout)
    return made[0], made[1], scratch / "trace.html"


def test_plan_and_trace(browser: Browser, runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    plan, picture, trace = traced(runtime, bundle, scratch)
    for width, scheme in SIZES:
        seen(browser, plan, width, scheme)
        assert browser.ask(BEYOND) == []
        check_plan(browser, width, scheme)
        seen(browser, trace, width, scheme)
        assert browser.ask(BEYOND) == []
        assert "pivot_root" in browser.ask("document.body.innerText")
    check_links(browser, plan, WIDE)
    check_links(browser, plan, NARROW)
    seen(browser, plan, 800, "dark", "print")
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == WHITE
    assert box(browser, "#config")["top"] > box(browser, "#plan")["bottom"] - 1
    for scheme in ("light", "dark"):
        seen(browser, picture, 1000, scheme)
        assert browser.ask(OUTSIDE) == []
        assert "pivot_root" in browser.ask("document.documentElement.textContent")


def check_plan(browser: Browser, width: int, scheme: str) -> None:
    """Two lanes where there is room, one column where not; arrows that lead from step to step; headings in order."""
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (WHITE if scheme == "light" else DARK)
    text = browser.ask("document.body.innerText")
    for words in ("pivot_root", "waits until container has done", "ms", "ociVersion", "createRuntime hook"):
        assert words in text
    runtime, container = box(browser, ".step.rt"), box(browser, ".step.ct")
    source = box(browser, ".source")
    if width == WIDE:
        assert runtime["right"] < container["left"] and container["right"] < source["left"]
        assert browser.ask("document.documentElement.scrollHeight") == 900
    else:
        assert runtime["width"] > 300 and abs(container["left"] - runtime["left"]) < 30
        assert source["top"] > container["bottom"]
    arrows = browser.ask(ARROWS)
    assert len(arrows) >= 3
    assert all(top < 3 and bottom < 3 and height > 10 for top, bottom, height in arrows), arrows
    levels = browser.ask("[...document.querySelectorAll('h1,h2,h3')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert browser.ask("[...document.querySelectorAll('a')].every((link) => link.textContent.trim())")


def check_links(browser: Browser, plan: Path, width: int) -> None:
    """From a step to its lines and back; where both are side by side, the other part stays as it is."""
    browser.show(plan, width, 900)
    step = browser.ask(
        "[...document.querySelectorAll('.step')].find((each) => each.querySelector('.at') && each.value > 40).id"
    )
    value = browser.ask(f"document.querySelector('#{step} a[href^=\"#v\"]').hash")
    browser.click(f"#{step} .num")
    outline = f"getComputedStyle(document.querySelector('#{step}')).outlineStyle"
    eventually(lambda: browser.ask(outline) == "solid", what="the outline of the target")
    eventually_visible(browser, f"#{step}")
    before = browser.ask("document.querySelector('#plan').scrollTop")
    browser.click(f"#{step} a[href='{value}']")
    eventually_visible(browser, value)
    ground = f"getComputedStyle(document.querySelector({value!r})).backgroundColor"
    eventually(lambda: browser.ask(ground) == "rgb(255, 245, 194)", what="the colour of the target")
    if width == WIDE:
        assert browser.ask("document.querySelector('#plan').scrollTop") == before
        eventually_visible(browser, f"#{step}")
    browser.click(f".source a[href='#{step}']")
    eventually(lambda: browser.ask(outline) == "solid", what="the outline of the target again")
    eventually_visible(browser, f"#{step}")


HOSTILE = (
    "</script><script>window.taken=1</script>",
    '"><img src=//example.org/x onerror=window.taken=1>',
    "</pre></style></title><style>*{display:none}</style>",
    "\u202egnp.exe\u2066",
    "' autofocus onfocus=window.taken=1 x='",
    "A" * 3000,
    "\u05d0\u05d1 \u0301\u0301\u0301",
)


def test_hostile(browser: Browser, runtime: Runtime, make_bundle: Callable[..., Bundle], scratch: Path) -> None:
    """Words from a configuration stay words, and stay in the window."""
    changes: dict[str, Any] = {"annotations": {text: text for text in HOSTILE}, "hostname": "h"}
    bundle = make_bundle(["/bin/true", *HOSTILE], changes)
    for text in HOSTILE:
        bundle.config[text] = text
        bundle.add_mount(f"/mnt/{text[:200]}", "bind", f"/{text}", "bind")
    bundle.write()
    for name in ("html", "svg"):
        page = scratch / f"hostile.{name}"
        page.write_text(runtime.call("explain", "--format", name, bundle.path).stdout)
        for width, scheme in SIZES if name == "html" else [(1000, "light")]:
            seen(browser, page, width, scheme)
        assert browser.ask("window.taken === undefined && document.scripts.length === 0")
        assert browser.ask("document.querySelectorAll('img,iframe,object,embed,link,form,input').length") == 0
        text = browser.ask("document.documentElement.textContent")
        assert "U+202E" in text and "\u202e" not in text
        assert "</script><script>" in text
