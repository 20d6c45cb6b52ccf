"""Pages and pictures of a plan: what is in them, that all of it is escaped, and that nothing is from elsewhere."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container.explain import Explanation
from gosudacon.container.process import ExecOptions
from gosudacon.container.template import default_spec
from gosudacon.pages import markup
from gosudacon.pages.lanes import Layout
from gosudacon.pages.view import CONTAINER, RUNTIME, Place, Row
from gosudacon.pipeline.docstrings import about
from gosudacon.pipeline.edit import Changes
from gosudacon.pipeline.explain import Timings
from gosudacon.trace import page as trace_page
from gosudacon.trace import svg as trace_svg
from gosudacon.trace.model import FAILED, STEP, Span, Trace

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"\' onmouseover=alert(1) x="',
    "<img src=//example.org/x onerror=alert(1)>",
    "]]><!-- --><![CDATA[ &amp; &#x3c;",
    "\x1b[31m\x07\x7f\x85",
    "\u202egnp.exe\u2066\u200b\ufeff\u00ad\U000e0041",
    "</title></style></pre></svg>",
    "java\tscript:\\u003c",
)


class Page(HTMLParser):
    """The elements of a page, and what a browser would not show as text."""

    VOID = frozenset(("meta", "rect", "path", "line", "wbr"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


ALLOWED = frozenset(
    (
        *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "details", "summary"),
        *("h1", "h2", "h3", "p", "a", "ul", "ol", "li", "div", "span", "b", "i", "bdi", "pre", "wbr"),
        *("table", "tr", "td", "th", "svg", "rect", "text", "path", "line"),
    )
)


def check(html: str) -> Page:
    """What holds for every page: known elements, no script, no address, every link leads somewhere, all is visible."""
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "style", "srcset", "action", "xlink"}
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.values("href")} <= set(ids)
    assert set(re.findall(r"\w+://[^\s\"'<]+", "".join(page.values("xmlns")))) <= {"http://www.w3.org/2000/svg"}
    assert_visible(html)
    (policy,) = [values["content"] for _, values in page.tags if values.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert len(re.findall(r"'sha256-", policy)) == sum(tag == "style" for tag, _ in page.tags)
    return page


def assert_visible(text: str) -> None:
    odd = {character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert odd <= {"\n", "\t"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "web"
    path.mkdir()
    return path


def plain_config() -> Any:
    return default_spec(cgroup_v2=True)


def explanation(bundle: Path, config: Any = None, text: str = "", process: str = "", mounts: str = "") -> Explanation:
    text = text or json.dumps(config or plain_config(), indent=1, ensure_ascii=False)
    (bundle / "config.json").write_text(text, errors="surrogatepass")
    words = ExecOptions()
    words.process = process
    words.no_snapshot = True
    made = Explanation(str(bundle), words, mounts=mounts)
    made.check("")
    return made


def measured(title: str, seconds: dict[int, float]) -> Timings:
    made = Timings(title)
    made.steps = {index: {"ns": round(each * 1e9), "status": "ok"} for index, each in seconds.items()}
    made.notes = [title]
    return made


def test_every_step_and_its_line(bundle: Path) -> None:
    made = explanation(bundle)
    page = check(made.as_page())
    lines = (bundle / "config.json").read_text().splitlines()
    text = "".join(page.text)
    steps = made.plan.to_json()
    assert [value for tag, values in page.tags if tag == "li" and (value := values.get("value"))] == [
        str(number) for number in range(1, len(steps) + 1)
    ]
    for step in steps:
        assert str(step["what"]) in text
    (hostname,) = re.findall(
        r'<a href="#v\d+"><span class="where">hostname</span> <span class="at">\(line (\d+)\)',
        made.as_page(),
    )
    assert '"hostname"' in lines[int(hostname) - 1]
    assert "waits until" in text and "begins when" in text and "undone by delete" in text


def test_the_text_of_the_file_is_the_files(bundle: Path) -> None:
    """Without numbers and marks it is what was read."""
    html = explanation(bundle).as_page()
    pre = html.partition('<pre class="source">')[2].partition("</pre>")[0]
    bare = re.sub(r'<a class="n".*?</a>|( <a class="m .*?</a>)', "", pre)
    assert "".join(Page(bare).text) == (bundle / "config.json").read_text().rstrip()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words(bundle: Path, text: str) -> None:
    """Everywhere where a configuration, a plugin or a trace has words of its own."""
    config = plain_config()
    config["process"]["args"] = [text, text]
    config["process"]["env"] = [f"X={text}"]
    config["annotations"] = {text: text}
    config[text] = text
    config["mounts"].append({"destination": f"/a/{text}", "type": "bind", "source": f"/{text}", "options": ["bind"]})
    made = explanation(bundle, config)
    assert any(text in finding.where or json.dumps(text) in finding.where for finding in made.findings)
    changes = Changes()
    changes.note(text, ("mounts",), {"mounts": []}, {"mounts": [{"destination": text}]})
    changes.note(text, ("annotations", text), {"annotations": {text: "a"}}, {"annotations": {text: text}})
    made.plan.edits = changes
    made.plan.steps[0].edited_by = f"plugin {text}"
    made.plan.steps[1].stage = text
    made.plan.amended.append(text)
    seconds = {index: 0.001 * index for index in range(len(made.plan.steps))}
    page = check(made.as_page("", measured(text, seconds), True, {0: text}))
    if text.isprintable():
        assert text in "".join(page.text)
    assert_visible(picture := made.as_svg("", measured(text, seconds), {0: text}))
    assert "script" not in {element.tag.rpartition("}")[2] for element in ET.fromstring(picture).iter()}
    trace = Trace("create", text, 10**7)
    trace.error = text
    trace.spans = [Span(STEP, RUNTIME, text, 0, 10**6, stage=text, where=text, message=text, status=FAILED)]
    check(trace_page.dumps(trace))
    assert_visible(drawn := trace_svg.dumps(trace))
    ET.fromstring(drawn)


def test_lone_surrogates_of_paths() -> None:
    """A path that is not UTF-8, as Python has it."""
    assert markup.text("a\udcffb") == 'a<span class="odd">U+DCFF</span>b'
    assert markup.attribute("a\udcff\x00<") == "a[U+DCFF][U+0000]&lt;"
    assert markup.text("\u05d0 é 漢字 → ✓") == "\u05d0 é 漢字 → ✓"


def test_every_character() -> None:
    """What a reader cannot see is shown by its number, wherever it stands; a letter is itself."""
    for number in [*range(0x32000), *range(0xE0000, 0xE0200), *range(0x10FF00, 0x110000)]:
        character = chr(number)
        kind = unicodedata.category(character)
        if kind == "Cn" and (0x370 <= number <= 0x560 or 0x3041 <= number <= 0x3163):
            continue  # drawn as a box
        if character in "\n\t\r":
            assert markup.text(character) == f'<span class="odd">{character!r}</span>'.replace("'", "")
        elif kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            assert markup.plain(character) == f"[U+{number:04X}]"
            assert markup.text(f"a{character}b") == f'a<span class="odd">U+{number:04X}</span>b'
        elif kind[0] in "LN" and number not in (0x115F, 0x1160, 0x3164, 0xFFA0):
            assert markup.plain(character) == character


def test_a_file_on_one_line(bundle: Path) -> None:
    """As engines write it: shown indented, with links all the same."""
    made = explanation(bundle, text=json.dumps(plain_config(), separators=(",", ":")))
    html = made.as_page()
    check(html)
    assert "long lines" in html
    (line,) = re.findall(r'<span class="where">hostname</span> <span class="at">\(line (\d+)\)', html)
    shown = re.search(f'id="L{line}".*', html)
    assert shown is not None and "hostname" in shown[0]
    bare = re.sub(r'<a class="n".*?</a>|( <a class="m .*?</a>)', "", html.partition('<pre class="source">')[2])
    assert json.loads("".join(Page(bare.partition("</pre>")[0]).text)) == plain_config()


def test_windows_line_ends_and_tabs(bundle: Path) -> None:
    text = json.dumps(plain_config(), indent="\t").replace("\n", "\r\n")
    html = explanation(bundle, text=text).as_page()
    check(html)
    assert f'id="L{text.count(chr(10)) + 1}"' in html


def test_a_huge_file(bundle: Path) -> None:
    """What is too much is left out, and the page says so."""
    config = plain_config()
    config["annotations"] = {"a": "x" * 10_000, "b": "y" * (1 << 20)}
    config["hostname"] = "after"
    config["linux"]["maskedPaths"] = [f"/proc/{number}" for number in range(6000)]
    config["zz"] = 1
    html = explanation(bundle, config).as_page()
    check(html)
    assert "characters more are not shown" in html and "6,000 characters more</span>" not in html
    assert re.search("10,00[0-9]|6,00[0-9] characters more", html) and re.search(r"\d+ steps more are not shown", html)
    assert len(html) < 6 << 20
    assert len(explanation(bundle, config).as_svg()) < 1 << 20


def test_a_name_twice(bundle: Path) -> None:
    """The last one counts, as for the parser."""
    text = json.dumps(plain_config(), indent=1)
    html = explanation(bundle, text=text[:-1].rstrip() + ',\n "hostname": "last"\n}').as_page()
    (line,) = re.findall(r'<span class="where">hostname</span> <span class="at">\(line (\d+)\)', html)
    assert int(line) == len((bundle / "config.json").read_text().splitlines()) - 1


def test_a_value_that_the_file_does_not_say(bundle: Path) -> None:
    """The innermost one around it is meant, and that is said."""
    config = plain_config()
    config["linux"].pop("cgroupsPath", None)
    assert re.search(
        r"linux\.cgroupsPath</span> <span class=\"at\">\(in line \d+\)",
        explanation(bundle, config).as_page(),
    )


def test_one_stage(bundle: Path) -> None:
    """No barrier leads to a step that is not there."""
    made = explanation(bundle)
    html = made.as_page("namespaces")
    check(html)
    assert html.count('<li class="step') == sum(step.stage == "namespaces" for step in made.plan.steps)
    ET.fromstring(made.as_svg("namespaces"))


def test_times_and_verdicts(bundle: Path) -> None:
    made = explanation(bundle)
    last = len(made.plan.steps) - 1
    times = measured("web.json", {0: 0.0025, last: 0.005})
    waiting = next(step for step in made.plan.to_json() if "waits_for" in step)
    times.waits[str(waiting["side"]), int(str(waiting["waits_for"]))] = 7_000_000
    html = made.as_page("", times, verdicts={0: "enforced", 1: "NOT ENFORCED", 2: "new word"})
    text = " ".join(check(html).text)
    for words in (
        "2.50 ms",
        "5.00 ms",
        "(7.00 ms)",
        "times: web.json; in steps",
        "✓ enforced",
        "✗ NOT ENFORCED",
        "? new word",
    ):
        assert words in text
    assert f"{last - 1} steps without a time" in text
    assert "b12" in html and "b24" in html
    picture = made.as_svg("", measured("web.json", {0: 0.0025}), {1: "NOT ENFORCED"})
    assert "2.50 ms" in picture and "✗" in picture


def test_why(bundle: Path) -> None:
    """With --long, what the docstrings of steps say."""
    made = explanation(bundle)
    text = "".join(check(made.as_page(long=True)).text)
    said = [about(type(step)) for step in made.plan.steps]
    assert any(each.why for each in said)
    assert all(each.why in text and each.without in text and each.see in text for each in said)
    assert "Without it: " not in made.as_page()


def test_what_is_shared_and_what_steps_set(bundle: Path) -> None:
    config = plain_config()
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
    config["process"]["env"].append("COLOUR=<blue>")
    made = explanation(bundle, config)
    text = "".join(check(made.as_page()).text)
    assert made.risk() == "high" and "Shared with the host, risk high" in text
    assert all(reason.what in text and reason.why in text for reason in made.shared)
    assert "what it sets" in text and text.count("COLOUR=<blue>") == 2
    assert "Shared with the host" not in made.as_page("handoff")


@pytest.mark.parametrize("kind", ["process", "mounts"])
def test_other_plans(bundle: Path, kind: str) -> None:
    """A place leads into the file that was given."""
    explanation(bundle)
    file = bundle / "what.json"
    mounts = [{"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}]
    process = {"args": ["id"], "cwd": "/", "user": {"uid": 7, "gid": 0}, "noNewPrivileges": True}
    file.write_text(json.dumps(process if kind == "process" else mounts, indent=1))
    made = explanation(bundle, process=str(file)) if kind == "process" else explanation(bundle, mounts=str(file))
    html = made.as_page()
    check(html)
    assert '<h2 id="file-title">what.json</h2>' in html
    where, line = ("process.user", 5) if kind == "process" else ("mounts[0]", 2)
    found = re.findall(rf'<span class="where">{re.escape(where)}</span> <span class="at">\(line (\d+)\)', html)
    assert found and int(found[0]) in range(line, line + 3)


def row(side: str, phase: str, waits: int = -1) -> Row:
    made = Row(side, phase, "stage", "what", Place(""))
    made.waits = waits
    return made


def test_lanes() -> None:
    """What waits stands below what it waits for; what does not, beside; barriers that overlap have their own tracks."""
    rows = [
        row(RUNTIME, "prepare"),
        row(RUNTIME, "prepare"),
        row(CONTAINER, "mount", 0),
        row(CONTAINER, "mount"),
        row(RUNTIME, "confine", 3),
        row(CONTAINER, "confine", 1),
        row(CONTAINER, "confine", 4),
    ]
    layout = Layout(rows)
    assert layout.at == [2, 3, 4, 5, 7, 7, 8]
    assert layout.headings == [(1, 0), (3, 2), (6, 4), (6, 5)]
    assert all(layout.at[arrow.source] < layout.at[arrow.target] for arrow in layout.arrows)
    for one, other in itertools.combinations(layout.arrows, 2):
        spans = [range(layout.at[each.source], layout.at[each.target] + 1) for each in (one, other)]
        assert one.track != other.track or not set(spans[0]) & set(spans[1])


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_contrast(which: int) -> None:
    """Every colour of a text can be read on every background."""
    backgrounds = ("bg", "panel", "target")
    for name in set(markup.PALETTE) - {*backgrounds, "line", "around"}:
        for ground in backgrounds:
            found = contrast(markup.PALETTE[name][which], markup.PALETTE[ground][which])
            assert found >= 4.5, (name, ground, found)


@pytest.mark.parametrize("draw", [Explanation.as_svg, Explanation.as_page])
def test_the_same_twice(bundle: Path, draw: Callable[..., str]) -> None:
    made = explanation(bundle)
    assert draw(made) == draw(made)
