"""Stacked bars: names of several lines have their room, and withheld seconds are said to be none."""

import re
from itertools import pairwise

from fedhpro_flwr.report.bar_pictures import bytes_picture, class_picture, domain_picture, seconds_picture
from fedhpro_flwr.report.groups import Group, group_runs
from fedhpro_flwr.report.runs import Run

PRIVATE = {
    "privacy__model_clip": 1.0,
    "privacy__model_noise": 1.0,
    "privacy__withhold": True,
}


def groups(make_run, names, **changes):
    runs = [Run.read(make_run(f"run-{place}", [0.5], **changes)) for place in range(len(names))]
    return [Group(name, [run]) for name, run in zip(names, runs, strict=True)]


def test_seconds_that_clients_withhold_are_not_shown_as_none(make_run):
    (open_group,) = groups(make_run, ["open"])
    private = Run.read(make_run("private", [0.5], method__name="fedavg", **PRIVATE))
    lines = [{**line, "client_seconds": {}} for line in private.rounds]
    silent = Group("silent", [Run(private.folder, private.config, lines, private.summary, "", None)])
    shown = seconds_picture([open_group, silent])
    assert shown.alt == "Stacked bars of seconds a round, in total: open 3.25; silent 0.25 (server alone)."
    assert shown.caption.endswith(
        "Clients with privacy.withhold do not tell theirs: those bars are the server's alone."
    )
    assert "withhold" not in seconds_picture([open_group]).caption


def test_a_run_that_is_still_in_its_first_round_does_not_pull_its_groups_bars_down(make_run):
    settings = {"data__domains": "north,south"}
    ended = make_run("ended", [0.2, 0.9], **settings)
    begun = make_run("begun", [0.1], seed=1, finished=False, **{**settings, "rounds": 2})
    both = group_runs([Run.read(ended), Run.read(begun)]).shown
    assert len(both) == 1 and len(both[0].runs) == 2
    assert "from 90.0 (cat) to 100.0 (dog)" in class_picture(both).alt
    assert "from 45.0 (south) to 90.0 (north)" in domain_picture(both).alt
    alone = group_runs([Run.read(begun)]).shown
    assert "from 10.0 (cat) to 100.0 (dog)" in class_picture(alone).alt


def test_names_of_many_lines_do_not_overlap(make_run):
    names = [f"word{place} " + "and some more words " * 6 for place in range(3)]
    svg = bytes_picture(groups(make_run, names)).svg
    text = [(float(y), word) for y, word in re.findall(r"<text[^>]*translate\([\d.]+ ([\d.]+)\)[^>]*>([^<]*)", svg)]
    heights = sorted(y for y, word in text if "word" in word)
    assert len(heights) >= 12
    assert min(below - above for above, below in pairwise(heights)) > 10  # points
