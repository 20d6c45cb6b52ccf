"""A plan as one HTML page: the two lanes with their barriers, next to the file that each step comes from."""

from __future__ import annotations

from gosudacon.pages.lanes import Layout
from gosudacon.pages.markup import cut, duration, limited, page, text, wrapped
from gosudacon.pages.source import Mark, Source
from gosudacon.pages.style import PRINT, STYLE, WIDE
from gosudacon.pages.verdicts import of_verdict
from gosudacon.pages.view import CONTAINER, RUNTIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.pages.view import Edit, Note, Place, Row, Share, View

MOST_STEPS = 5000  # that are shown
_WIDE = "@media screen and (min-width:1000px)"
_CLASS = {RUNTIME: "rt", CONTAINER: "ct"}
_OTHER = {RUNTIME: CONTAINER, CONTAINER: RUNTIME}
_LONGEST = 1000  # characters of a line or a message
_MOST_DETAILS = 200  # lines of what one step sets
_HEADS = "".join(f'<span class="{name}">{side}</span>' for side, name in _CLASS.items())
_BARS = 24  # lengths of bars
_INDENTED = '<p class="legend">The file has very long lines: it is indented here, and lines are counted as shown.</p>'


def html(view: View) -> str:
    """The page of a plan."""
    return _Page(view).html()


class _Page:
    def __init__(self, view: View) -> None:
        self.view = view
        self.rows = view.rows[:MOST_STEPS]
        self.source = Source(view.text)
        self.layout = Layout(self.rows)
        self.starts = dict((index, line) for line, index in self.layout.headings)
        self.most = max((row.seconds for row in self.rows), default=0)
        for number, row in enumerate(self.rows, 1):
            self.source.mark(row.place, Mark(f"s{number}", str(number), _CLASS[row.side], f"step {number}: {row.what}"))
        for number, note in enumerate(view.notes, 1):
            self.source.mark(note.place, Mark(f"n{number}", note.kind, note.kind, note.message))
        for share in view.shared:
            self.source.mark(share.place, Mark("shared", f"risk {share.level}", "warning", share.what))
        self.lines = self.source.html()

    def html(self) -> str:
        body = "\n".join((self._header(), "<main>", self._plan(), self._file(), "</main>"))
        return page(f"gosudacon explain {self.view.id}", self._style(), body)

    def _style(self) -> str:
        """With what depends on the plan: the lines of steps, headings and arrows in the two grids."""
        wide, narrow, line = [], [], 0
        narrow_at = []
        for index, at in enumerate(self.layout.at):
            if index in self.starts:
                line += 1
                wide.append(f"#h{index + 1}{{grid-row:{self.starts[index]}}}")
            line += 1
            narrow_at.append(line)
            wide.append(f"#s{index + 1}{{grid-row:{at}}}")
        for number, arrow in enumerate(self.layout.arrows, 1):
            first, last = self.layout.at[arrow.source], self.layout.at[arrow.target]
            wide.append(f"#a{number}{{grid-row:{first}/{last}}}")
            first, last = narrow_at[arrow.source], narrow_at[arrow.target]
            narrow.append(f"#a{number}{{--k:{arrow.track % 4};grid-row:{first}/{last}}}")
        bars = [f".b{length}{{width:{length * 3}px}}" for length in range(_BARS + 1)] if self.most > 0 else []
        general = STYLE + "".join((*narrow, *bars))
        return f"{general}{_WIDE}{{{WIDE}{''.join(wide)}}}@media print{{{PRINT}}}".replace("\n", "")

    def _header(self) -> str:
        view = self.view
        sides = [sum(row.side == side for row in view.rows) for side in (RUNTIME, CONTAINER)]
        waits = sum(row.waits >= 0 and not row.begins for row in view.rows)
        facts = [f"{_count(len(view.rows), 'step')}: {sides[0]} runtime, {sides[1]} container"]
        facts.append(_count(waits, "barrier"))
        facts += [_count(number, kind) for kind, number in _kinds(view.notes).items()]
        facts += [_count(len(view.edits), "edit") + " by plugins"] if view.edits else []
        links = [("#plan", "plan"), ("#config", view.file)]
        nav = "".join(f'<a href="{target}">{text(name)}</a>' for target, name in links)
        return (
            f"<header><h1>gosudacon explain: <bdi>{text(view.id)}</bdi></h1>"
            + "".join(f"<p>{text(' · '.join(line))}</p>" for line in (view.about, facts))
            + f'{self._times()}{self._verdicts()}<nav aria-label="Parts">{nav}</nav></header>'
        )

    def _times(self) -> str:
        """What the trace says of all steps."""
        timed = [row for row in self.rows if row.seconds >= 0]
        if not self.view.timed_by:
            return ""
        sums = {side: sum(row.seconds for row in timed if row.side == side) for side in _OTHER}
        words = ", ".join(f"{duration(seconds)} {side}" for side, seconds in sums.items())
        lacking = len(self.rows) - len(timed)
        words += f"; {_count(lacking, 'step')} without a time" if lacking else ""
        return f"<p>times: {text(self.view.timed_by)}; in steps {words}</p>"

    def _verdicts(self) -> str:
        counts: dict[str, int] = {}
        for row in self.rows:
            if row.verdict:
                counts[row.verdict] = counts.get(row.verdict, 0) + 1
        if not counts:
            return ""
        badges = " ".join(f"{_badge(verdict)} {number}" for verdict, number in counts.items())
        return f"<p>audit, by steps: {badges}</p>"

    def _plan(self) -> str:
        left = len(self.view.rows) - len(self.rows)
        more = f'<p class="cut">{_count(left, "step")} more are not shown</p>' if left else ""
        return "\n".join(
            (
                '<section id="plan" tabindex="0" aria-labelledby="plan-title">',
                *self._shared(),
                *self._notes(),
                *self._edits(),
                '<h2 id="plan-title">Plan</h2>',
                self._legend(),
                f'<div class="heads" aria-hidden="true">{_HEADS}</div>',
                f'<div class="lanes">{"".join(self._lanes())}{"".join(self._arrows())}</div>{more}',
                "</section>",
            )
        )

    def _legend(self) -> str:
        words = []
        if self.layout.arrows:
            words.append("⇄ and arrows: one side waits for the other")
        if any(row.lasts for row in self.rows):
            words.append("↺ outlives the command; undone by delete and when a step fails")
        words.append("A number in the file leads to its step, a place of a step into the file")
        return f'<p class="legend">{". ".join(words)}.</p>'

    def _lanes(self) -> Iterator[str]:
        side = ""
        for index, row in enumerate(self.rows):
            if index in self.starts or row.side != side:
                yield "</ol>" if index else ""
                if index in self.starts:
                    heading = f'<h3 id="h{index + 1}" class="{_CLASS[row.side]}">{text(row.phase)}'
                    yield f"{heading} <span>· {row.side}</span></h3>"
                yield f'<ol class="{_CLASS[row.side]}">'
                side = row.side
            yield self._step(index + 1, row)
        yield "</ol>" if self.rows else '<p class="dim">No steps.</p>'

    def _step(self, number: int, row: Row) -> str:
        wait = ""
        if row.waits >= 0:
            verb = "begins when" if row.begins else "⇄ waits until"
            other = self.rows[row.waits]
            target = f'<a href="#s{row.waits + 1}">{row.waits + 1} {wrapped(cut(other.what, 60))}</a>'
            time = f" ({duration(row.waited)})" if row.waited >= 0 else ""
            wait = f'<p class="wait">{verb} {other.side} has done: {target}{time}</p>'
        facts = [f"<span>{text(row.stage)}</span>", self._place(row.place)]
        if row.edited_by:
            target = f"#e{row.edit + 1}" if row.edit >= 0 else "#edits"
            facts.append(f'<a href="{target}">✎ {text(row.edited_by)}</a>')
        facts.append('<span class="lasts" title="outlives the command">↺ undone by delete</span>' if row.lasts else "")
        if row.seconds >= 0:
            length = round(_BARS * row.seconds / self.most) if self.most else 0
            facts.append(f'<span class="time">{duration(row.seconds)} <i class="bar b{length}"></i></span>')
        facts.append(_badge(row.verdict))
        what = limited(row.what, _LONGEST, wrapped)
        details = "".join(f"<li>{limited(each, _LONGEST, wrapped)}</li>" for each in row.details[:_MOST_DETAILS])
        if details:
            more = len(row.details) - _MOST_DETAILS
            details += f'<li class="cut">{more} more</li>' if more > 0 else ""
            details = f'<details class="more"><summary>what it sets</summary><ul>{details}</ul></details>'
        below = "".join(f'<p class="about">{text(each)}</p>' for each in row.about) + details
        return (
            f'<li class="step {_CLASS[row.side]}" id="s{number}" value="{number}">{wait}'
            f'<a class="num" href="#s{number}" aria-label="step {number}">{number}</a>'
            f'<span class="what">{what}</span><div class="sub">{"".join(filter(None, facts))}</div>{below}</li>'
        )

    def _place(self, place: Place) -> str:
        """A link into the file, or the place alone where the file does not say it."""
        if not place.where:
            return ""
        target, line = self.source.line(place)
        words = f'<span class="where">{text(place.where)}</span>'
        if not target:
            return f"<span>{words}</span>"
        near = "" if place.exact else "in "
        return f'<a href="#{target}">{words} <span class="at">({near}line {line})</span></a>'

    def _arrows(self) -> Iterator[str]:
        for number, arrow in enumerate(self.layout.arrows, 1):
            side = _CLASS[self.rows[arrow.target].side]
            yield f'<div class="arrow to-{side}" id="a{number}" aria-hidden="true"><i></i></div>'

    def _shared(self) -> Iterator[str]:
        """What is shared with the host, which a reviewer reads first."""
        if not self.view.topics:
            return
        yield f'<details open id="shared"><summary>Shared with the host, risk {_level(self.view.risk)}</summary>'
        yield '<ul class="notes shared">'
        for topic in self.view.topics:
            found = [self._share(each) for each in self.view.shared if each.topic == topic]
            yield f"<li><b>{text(topic)}</b> {''.join(found) or 'nothing'}</li>"
        yield "</ul></details>"

    def _share(self, share: Share) -> str:
        what = f"{_level(share.level)} {limited(share.what, _LONGEST)}"
        return f'<p>{what}: <span class="dim">{text(share.why)}</span> {self._place(share.place)}</p>'

    def _notes(self) -> Iterator[str]:
        if not self.view.notes:
            return
        title = ", ".join(_count(number, kind) for kind, number in _kinds(self.view.notes).items())
        yield f'<details open><summary>{title}</summary><ul class="notes">'
        for number, note in enumerate(self.view.notes, 1):
            yield self._note(number, note)
        yield "</ul></details>"

    def _note(self, number: int, note: Note) -> str:
        style = {"finding": "bad", "failure": "bad", "warning": "warn"}.get(note.kind, "dim")
        hint = f'<p class="hint dim">hint: {text(note.hint)}</p>' if note.hint else ""
        stage = f' <span class="dim">{text(note.stage)}</span>' if note.stage else ""
        kind = f'<b class="{style}">{note.kind}</b>{stage} {self._place(note.place)}'
        return f'<li class="{note.kind}" id="n{number}">{kind} {limited(note.message, _LONGEST)}{hint}</li>'

    def _edits(self) -> Iterator[str]:
        if not self.view.edits:
            return
        yield '<details open id="edits"><summary>Edited by plugins before planning</summary><ul class="edits">'
        for number, edit in enumerate(self.view.edits, 1):
            yield _edit(number, edit)
        yield "</ul></details>"

    def _file(self) -> str:
        note = ""
        if self.source.indented:
            note = _INDENTED
        return (
            '<section id="config" tabindex="0" aria-labelledby="file-title">'
            f'<h2 id="file-title">{text(self.view.file)}</h2>{note}<pre class="source">{self.lines}</pre></section>'
        )


def _edit(number: int, edit: Edit) -> str:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    before = f'<span class="minus">- {limited(edit.before, _LONGEST)}</span>' if edit.before else ""
    after = f'<span class="plus">+ {limited(edit.after, _LONGEST)}</span>' if edit.after else ""
    return (
        f'<li id="e{number}">{signs.get(edit.what, "")} <span class="where">{text(edit.where)}</span> '
        f"{text(edit.what)} by plugin <b>{text(edit.plugin)}</b>{before}{after}</li>"
    )


def _level(level: str) -> str:
    style = {"medium": "warn", "high": "bad", "critical": "bad"}.get(level, "ok")
    return f'<span class="badge {style}">{text(level)}</span>'


def _badge(verdict: str) -> str:
    if not verdict:
        return ""
    sign, style = of_verdict(verdict)
    return f'<span class="badge {style}">{sign} {text(verdict)}</span>'


def _kinds(notes: list[Note]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for note in notes:
        kinds[note.kind] = kinds.get(note.kind, 0) + 1
    return kinds


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
