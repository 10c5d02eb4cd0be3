"""The page as text: what comes from settings is escaped, and pictures keep their ids apart."""

from __future__ import annotations

import re
from importlib.resources import files

from fedhpro_flwr.report.drawing import ACCENTS, inline, look, new_figure, picture
from fedhpro_flwr.report.page import Section, Table, page

EVIL = '<script>alert("&")</script>'


def test_all_text_is_escaped():
    drawing = picture(new_figure()[0], "one", EVIL, EVIL)
    section = Section("a", EVIL, (EVIL,), ((EVIL, EVIL),), Table((EVIL,), ((EVIL, EVIL),)), (drawing,), (EVIL,))
    text = page(EVIL, [section])
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&quot;&amp;&quot;)&lt;/script&gt;") == 14


def test_equal_figures_have_equal_bytes_and_ids_of_their_own():
    first, again, other = (picture(new_figure()[0], name, "", "a plot") for name in ("one", "one", "two"))
    assert (first.svg, first.png) == (again.svg, again.png)
    ids = [set(re.findall(r'id="([^"]+)"', each.svg)) for each in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r"(?:url\(|href=\")#([^\")]+)", first.svg))
    assert used <= ids[0]


def test_ink_and_group_colours_are_the_pages():
    svg = '<?xml?><svg viewBox="0 0 72 36"><path d="M 1.23456 2 L 3 4.5" fill="#1b2530" stroke="#0072b2"/></svg>'
    text = inline(svg, "one", "a plot")
    assert 'd="M 1.23 2 L 3 4.5" fill="currentColor" stroke="var(--group-1)"' in text
    assert 'role="img" aria-label="a plot" style="--natural:96px"' in text


def test_the_style_sheet_has_every_group_in_light_and_dark():
    style = (files("fedhpro_flwr.report") / "style.css").read_text(encoding="utf-8")
    for number, color in enumerate(ACCENTS, start=1):
        assert len(re.findall(rf"--group-{number}: #[0-9a-f]{{6}};", style)) == 2
        assert f"--group-{number}: {color};" in style


def test_eighteen_groups_look_different():
    assert len({str(look(group)) for group in range(18)}) == 18
