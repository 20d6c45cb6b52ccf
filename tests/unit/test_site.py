"""The site of the docs: its navigation, and links between files that become links between pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import site


def test_every_page_is_in_the_navigation() -> None:
    named = [f"{page}.md" for pages in site.SECTIONS.values() for page in pages]
    assert sorted([*named, "index.md"]) == sorted(name for _, name in site.sources())


@pytest.mark.parametrize(
    ("source", "text", "made"),
    [
        ("README.md", "[the plan](docs/explain.md#audit)", "[the plan](explain.md#audit)"),
        ("README.md", "![a plan](docs/explain.svg)", "![a plan](explain.svg)"),
        ("docs/plugins.md", "[new](../CHANGELOG.md), [a](../README.md)", "[new](changelog.md), [a](index.md)"),
        ("docs/plugins.md", "[learn.md](learn.md)", "[](learn.md)"),
        ("docs/plugins.md", "[learn.md](learn.md#a)", "[learn.md](learn.md#a)"),
        ("examples/README.md", "[the banner](plugins/banner)", "the banner"),
        ("docs/x.md", "[`a[0]`](learn.md#b) [c](#d) [e](https://example.org/f)", "[`a[0]`](learn.md#b) [c](#d) [e](https://example.org/f)"),
        ("docs/x.md", "```\n[a](no.md)\n```\n[b](mounts.md)", "```\n[a](no.md)\n```\n[b](mounts.md)"),
    ],
)  # fmt: skip
def test_links(source: str, text: str, made: str) -> None:
    assert site.relinked(text, source) == made


def test_a_link_to_nothing() -> None:
    with pytest.raises(site.BrokenLink, match=r"docs/x\.md: a link to no\.md"):
        site.relinked("[b](no.md)", "docs/x.md")


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(site, "convert", lambda _source, made: made.mkdir())
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(site.NotASite, match="is not a site, and is not empty"):
            site.build(path)
    assert (tmp_path / "thesis.txt").exists() and (tmp_path / "file").exists()
    monkeypatch.setattr("sys.argv", ["tools.site", str(tmp_path)])
    assert site.main() == 1


def test_a_site_takes_the_place_of_an_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(_source: Path, made: Path) -> None:
        made.mkdir()
        for name in ("objects.inv", "index.html", ".buildinfo"):
            (made / name).write_text("")

    monkeypatch.setattr(site, "convert", convert)
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "new", tmp_path / "empty"):
        site.build(target)
        (target / "old.html").write_text("")
        site.build(target)
        assert sorted(path.name for path in target.iterdir()) == ["index.html", "objects.inv"]


def test_pages_are_collected(tmp_path: Path) -> None:
    site.collect(tmp_path / "source")
    text = (tmp_path / "source/index.md").read_text()
    assert text.count("```{toctree}") == len(site.SECTIONS)
    assert {path.name for path in (tmp_path / "source").iterdir()} > {"plugins.md", "changelog.md", "explain.svg"}
