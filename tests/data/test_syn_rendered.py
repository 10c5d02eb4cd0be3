"""Rendered digits: the same bits for a seed, the label in the middle, fonts and colours that can be told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr.data import DataSource, load, syn_rendered
from fedhpro_flwr.data.syn_rendered import CONTRAST, FONTS, _window, draw_colours, load_fonts, render_digits


def test_data_set_follows_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syn_rendered, "TRAIN_SAMPLES", 60)
    monkeypatch.setattr(syn_rendered, "TEST_SAMPLES", 60)
    first, again, other = (load(DataSource(name="syn-rendered", split_seed=seed)) for seed in (3, 3, 4))
    assert (first.name, first.input_shape, first.num_classes) == ("syn-rendered", (3, 32, 32), 10)
    assert first.train.inputs.dtype == torch.uint8 and first.train.inputs.is_contiguous()
    for part, same in ((first.train, again.train), (first.test, again.test)):
        assert torch.equal(part.inputs, same.inputs) and torch.equal(part.labels, same.labels)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert not torch.equal(first.train.inputs, first.test.inputs)  # a stream of its own
    assert not torch.equal(first.test.inputs, other.test.inputs)


def test_sizes_stand_for_the_whole_set() -> None:
    assert (syn_rendered.TRAIN_SAMPLES, syn_rendered.TEST_SAMPLES) == (10_000, 2_000)


def test_all_digits_are_drawn_and_no_image_is_flat() -> None:
    split = render_digits(300, np.random.default_rng(0))
    assert np.bincount(split.labels, minlength=10).min() >= 15
    middle = split.inputs[:, :, 6:26, 6:26].flatten(2).double()  # [300, 3, 400]
    assert float(middle.std(dim=2).amax(dim=1).min()) > 5  # grey levels, in the best channel


def test_label_is_the_digit_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    # One font, upright, centred, sharp and 26 pixels high: what differs is the digit, its neighbours and the colours.
    for name, value in (
        ("FONTS", ("DejaVuSans.ttf",)),
        ("HEIGHT", (26.0, 26.0)),
        ("SHIFT", 0.0),
        ("TURN", 0.0),
        ("BLUR", 0.0),
        ("OUTLINE_WIDTH", 0),
    ):
        monkeypatch.setattr(syn_rendered, name, value)
    split = render_digits(200, np.random.default_rng(1))
    images = split.inputs.double()
    ink = (images - images[:, :, :1, :1]).norm(dim=1)  # distance from the background, [200, 32, 32]
    ink = ink / ink.amax(dim=(1, 2), keepdim=True)
    middle = ink[:, :, 7:25].flatten(1)  # narrower than a digit and its space
    templates = torch.stack([middle[split.labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(middle, templates)
    assert torch.equal(nearest.argmin(1), split.labels)
    assert float(nearest.amin(1).max()) < 0.5 < 3 < float(nearest.topk(2, largest=False).values[:, 1].min())
    # Neighbours show at the edges of some images and not of others.
    edges = ink[:, :, [0, 31]].amax(dim=(1, 2))
    assert bool((edges == 0).any()) and bool((edges > 0.5).any())


def test_a_window_is_turned_and_scaled_about_the_middle_of_the_canvas() -> None:
    shift = np.array([2.5, -1.0])
    a, b, c, d, e, f = _window(1.5, np.deg2rad(20.0), shift)

    def shown(x: float, y: float) -> tuple[float, float]:
        return a * x + b * y + c, d * x + e * y + f

    assert shown(16 + 2.5, 16 - 1.0) == pytest.approx((40, 40))  # the shifted middle of 32 pixels, that of 80
    turn = np.deg2rad(20.0)
    assert shown(17 + 2.5, 16 - 1.0) == pytest.approx((40 + 1.5 * np.cos(turn), 40 - 1.5 * np.sin(turn)))
    assert shown(16 + 2.5, 17 - 1.0) == pytest.approx((40 + 1.5 * np.sin(turn), 40 + 1.5 * np.cos(turn)))


def test_each_image_has_a_place_a_turn_a_size_and_an_outline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, outlines = [], []
    window, draw = syn_rendered._window, syn_rendered._draw
    monkeypatch.setattr(syn_rendered, "_window", lambda *given: windows.append(given) or window(*given))
    monkeypatch.setattr(syn_rendered, "_draw", lambda *given: outlines.append(given[-1]) or draw(*given))
    render_digits(300, np.random.default_rng(0))
    scales, turns, shifts = (np.array(drawn) for drawn in zip(*windows, strict=True))
    for drawn, most in ((turns, np.deg2rad(20.0)), (shifts[:, 0], 3.0), (shifts[:, 1], 3.0)):
        assert -most <= drawn.min() < -0.9 * most and 0.9 * most < drawn.max() <= most
        assert len(set(drawn)) == len(set(scales)) == 300
    assert set(outlines) == {0, 2} and 110 < outlines.count(2) < 190


def test_every_font_has_ten_digits_of_its_own() -> None:
    drawn = {(i, bytes(font.getmask(digit))) for i, font in enumerate(load_fonts()) for digit in "0123456789"}
    assert len(drawn) == 10 * len(FONTS)
    assert len({pixels for _, pixels in drawn}) == 10 * len(FONTS)  # no font twice
    assert list(FONTS) == sorted(FONTS)


def test_stroke_stands_out_from_background_and_outline() -> None:
    background, stroke, outline = (colour.astype(float) for colour in draw_colours(5000, np.random.default_rng(0)))
    for other in (background, outline):
        distance = np.linalg.norm(other - stroke, axis=1)
        assert distance.min() >= CONTRAST and distance.max() > 3 * CONTRAST
    assert np.linalg.norm(background - outline, axis=1).min() < CONTRAST  # these two may meet


def test_missing_font_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"'syn-rendered': .*ttf lacks DejaVuSans-Bold\.ttf; install"):
        load(DataSource(name="syn-rendered"))
