"""curves.png: a picture whatever a run holds."""

import json
import struct
import warnings

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.runs.curves import accuracy_curves, draw_curves
from fedhpro_flwr.runs.reports import RoundReport

RECEIVED = ClientsTested(clients=3, accuracy=0.25, deviation=0.0, worst=0.25, worst_client=0)


def lines(rounds, *, tested=True, groups=True, domains=None, **changes):
    found = []
    for number in range(1, rounds + 1):
        values = {
            "server_round": number,
            "seconds": 1.5,
            "server_seconds": {"waiting": 1.0, "aggregation": 0.01, "matching": 0.25},
            "client_seconds": {"class-gradients": 0.2, "local-training": 3.0},
            "bytes_down": {"model": 123_456},
            "bytes_up": {"model": 123_456, "class-gradients": 999},
            "clients": [],
            "train_loss": 2.5 / number,
            "received": None if number == 1 else RECEIVED,
            "tested": None,
        }
        if tested:
            head, medium, tail = (0.75, 0.5, None) if groups else (None, None, None)
            by_domain = {"domain_accuracy": domains, "mean_over_domains": 0.5} if domains else {}
            values["tested"] = ServerTested(accuracy=0.5, loss=1.0, head=head, medium=medium, tail=tail, **by_domain)
        found.append(json.loads(json.dumps(RoundReport(**(values | changes)).line())))
    return found


CASES = {
    "one round": lines(1),
    "many rounds": lines(30),
    "no round tested": lines(3, tested=False),
    "no client tested": lines(3, received=None),
    "no groups": lines(3, groups=False),
    "domains": lines(3, domains={"here": 0.25, "there": 0.75, "nowhere": None}),
    "no numbers of time and bytes": lines(2, server_seconds={}, client_seconds={}, bytes_down={}, bytes_up={}),
    "zeros": lines(2, train_loss=0.0, client_seconds={"evaluation": 0.0}, bytes_up={"model": 0}),
    "losses withheld": lines(2, train_loss=None),
    "losses withheld, no test": lines(2, train_loss=None, tested=False),
    "domains with dollar signs": lines(2, domains={"$\\x{$": 0.4, "usps": 0.6}),
}


@pytest.mark.parametrize(
    ("case", "imbalance"),
    [*((case, 1.0) for case in CASES), *((case, 100.0) for case in ("one round", "many rounds", "no round tested"))],
)
def test_a_picture_of_the_right_size(case, imbalance):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        picture = draw_curves(CASES[case], RunConfig.parse(partition__imbalance=imbalance))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1210, 682)
    assert len(picture) > 20_000


def test_names_that_the_font_lacks_are_no_page_of_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        draw_curves(lines(2, domains={"素描": 0.25, "照片": 0.5}), RunConfig.parse())


@pytest.mark.parametrize("case", ["many rounds", "domains"])
def test_no_legend_of_many_names_and_no_bar_hides_what_it_stands_for(case, monkeypatch):
    """More than a few names stand below the curves; bars begin at zero, so that their lengths can be compared."""
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *to, **how: [save(figure, *to, **how), drawn.append(figure)])
    draw_curves(CASES[case], RunConfig.parse())
    accuracy, _, *bars = drawn[0].axes
    is_below = accuracy.get_legend().get_window_extent().y1 < accuracy.get_window_extent().y0
    assert is_below == (case == "domains")
    assert [axes.get_xscale() for axes in bars] == ["linear", "linear"]


def test_the_groups_are_drawn_with_imbalance_only():
    balanced, tailed = (draw_curves(lines(5), RunConfig.parse(partition__imbalance=rho)) for rho in (1.0, 10.0))
    assert balanced != tailed


def test_the_rounds_of_a_long_run_are_no_dots(monkeypatch):
    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda *args, **style: drawn.append(style["marker"]) or plot(*args, **style))
    for rounds, marker in ((100, "."), (102, "")):  # the clients' own tests begin a round later
        draw_curves(lines(rounds), RunConfig.parse())
        assert drawn == [marker] * 4
        drawn.clear()


def test_every_curve_by_hand():
    received = ClientsTested(
        clients=2, accuracy=0.25, deviation=0.0, worst=0.25, worst_client=0, by_architecture={"cnn": 0.5, "mlp": 0.0}
    )
    found = lines(2, domains={"here": 0.25, "there": None}, received=received)
    assert accuracy_curves(found, RunConfig.parse(partition__imbalance=2.0)) == {
        "mean over domains": [(1, 50.0), (2, 50.0)],
        "here": [(1, 25.0), (2, 25.0)],
        "there": [(1, None), (2, None)],
        "head": [(1, 75.0), (2, 75.0)],
        "medium": [(1, 50.0), (2, 50.0)],
        "tail": [(1, None), (2, None)],
        "on the clients' own test data": [(0, 25.0), (1, 25.0)],
        "clients with cnn": [(0, 50.0), (1, 50.0)],
        "clients with mlp": [(0, 0.0), (1, 0.0)],
    }
    of_validation = RunConfig.parse(data__validation_share=0.2)
    assert accuracy_curves(found, of_validation)["on the clients' own validation data"] == [(0, 25.0), (1, 25.0)]
    without_a_global_model = lines(2, tested=False, received=None)
    assert accuracy_curves(without_a_global_model, RunConfig.parse()) == {}
    assert accuracy_curves(without_a_global_model, RunConfig.parse(), received) == {
        "on the clients' own test data": [(2, 25.0)],
        "clients with cnn": [(2, 50.0)],
        "clients with mlp": [(2, 0.0)],
    }
