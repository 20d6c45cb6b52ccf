"""The site of the docs: built strictly, complete in itself, and looked at in a real browser.

GOSUDACON_TEST_SCREENSHOTS=DIR keeps pictures of what was seen.
"""

from __future__ import annotations

import html.parser
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import Browser, seen
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually
from tools import site

pytestmark = needs("program:chromium")
SIZES = [*itertools.product((1440, 1100, 390), ("light", "dark"))]
THOROUGHLY = ("index", "config", "plugin-reference")
"""Pages that are looked at in every size; each of the others in one."""
# Elements of a page's text that reach beyond the window, except code and tables, which scroll by themselves.
BEYOND = """
[...document.querySelectorAll("article *")].filter((element) => !element.closest("pre, .table-wrapper, .sr-only") &&
  element.getBoundingClientRect().right > innerWidth + 0.5).map((element) => element.outerHTML.slice(0, 80))
"""
CLIPPED = """
[...document.querySelectorAll("article pre, article .table-wrapper")].filter((element) =>
  element.scrollWidth > element.clientWidth && !["auto", "scroll"].includes(getComputedStyle(element).overflowX))
  .map((element) => element.textContent.slice(0, 80))
"""


class Resources(html.parser.HTMLParser):
    """Addresses of what a page is made of: scripts, styles, pictures; not of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "srcset", "poster", "data", *(["href"] if tag in ("link", "image", "use") else []))
        self.addresses += [value for name, value in attrs if name in names and value]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by the command of `make site`."""
    target = tmp_path_factory.mktemp("site") / "pages"
    command = [sys.executable, "-B", "-m", "tools.site", str(target)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{target}/index.html\n"
    return target


def test_nothing_comes_from_other_hosts(pages: Path) -> None:
    """Every script, style, font and picture is a file of the site."""
    for page in pages.glob("*.html"):
        parser = Resources()
        parser.feed(page.read_text("utf-8"))
        assert len(parser.addresses) > 3
        for address in parser.addresses:
            if not address.startswith(("#", "data:")):
                assert (page.parent / address.partition("?")[0].partition("#")[0]).is_file(), f"{page.name}: {address}"
    for style in pages.rglob("*.css"):
        found = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text("utf-8"))
        for address in (one or other for one, other in found):
            assert address.startswith(("data:", "#")) or (style.parent / address).is_file(), f"{style.name}: {address}"


def test_pages_in_a_browser(pages: Path, browser: Browser) -> None:
    """Each has one heading, its text within the window at any width, and can be read in both colour schemes."""
    sizes = itertools.cycle(SIZES)
    names = [name.removesuffix(".md") for _, name in site.sources()]
    for name in sorted(names):
        for width, scheme in SIZES if name in THOROUGHLY else [next(sizes)]:
            seen(browser, pages / f"{name}.html", width, scheme)
            assert browser.ask(BEYOND) == [], name
            assert browser.ask(CLIPPED) == [], name
            assert browser.ask("document.querySelectorAll('h1').length") == 1, name
            broken = "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)"
            assert browser.ask(broken) == [], name
    browser.show(pages / "index.html", 1280)
    listed = browser.ask("[...document.querySelectorAll('.sidebar-tree a')].map((link) => link.getAttribute('href'))")
    assert {f"{name}.html" for name in names} - {"index.html"} <= set(listed)


def test_search(pages: Path, browser: Browser) -> None:
    """From a folder, without a server."""
    browser.show(pages / "search.html", 1280)
    browser.ask("document.querySelector('input[name=q]').value = 'oci_faults'")
    browser.ask("document.querySelector('form.sidebar-search-container').submit()")
    found = "[...document.querySelectorAll('#search-results a')].map((link) => link.getAttribute('href')).join(' ')"
    eventually(lambda: "plugin-testing.html" in browser.ask(found), what="results of the search")
    browser.said.clear()  # the excerpts below results need a server


def test_faults_end_the_build(scratch: Path) -> None:
    """Links to pages, headings and pictures that are not there, and a page that nothing leads to."""
    source = scratch / "source"
    source.mkdir()
    faults = ("[a](other.md#no-heading)", "[b](no-page.md)", "[c](#no-place)", "![d](no-picture.svg)")
    (source / "index.md").write_text("# Title\n\n" + "\n\n".join(faults) + "\n\n```{toctree}\nother\n```\n")
    (source / "other.md").write_text("# Other\n")
    (source / "lost.md").write_text("# Lost\n")
    with pytest.raises(subprocess.CalledProcessError) as raised:
        site.convert(source, scratch / "made", subprocess.PIPE)
    said = raised.value.stderr
    for word in ("no-heading", "no-page", "no-place", "no-picture", "lost.md"):
        assert word in said
    assert said.count("WARNING") == 5, said
