"""The six transforms by loops and by hand, and the draw of one of them."""

from __future__ import annotations

import math

import pytest
import torch

from fedhpro_flwr.data import dsa

X = torch.randn(3, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_color_by_a_loop():
    out = dsa.color(X, brightness=0.9, saturation=0.2, contrast=0.7)
    for n in range(3):
        shifted = X[n] + 0.4
        image = torch.empty_like(shifted)
        for r in range(8):
            for c in range(6):
                grey = sum(float(shifted[k, r, c]) for k in range(3)) / 3
                for k in range(3):
                    image[k, r, c] = (float(shifted[k, r, c]) - grey) * 0.4 + grey
        mean = float(image.sum()) / image.numel()
        torch.testing.assert_close(out[n], (image - mean) * 1.2 + mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(dsa.color(X, brightness=0.5, saturation=0.5, contrast=0.5), X, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 0), (0, -2), (-1, 2), (3, 3)])
def test_crop_by_a_loop(rows, columns):
    out = dsa.crop(X, rows=rows, columns=columns)
    expected = torch.zeros_like(X)
    for r in range(8):
        for c in range(6):
            if 0 <= r + rows < 8 and 0 <= c + columns < 6:
                expected[:, :, r, c] = X[:, :, r + rows, c + columns]
    assert torch.equal(out, expected)


@pytest.mark.parametrize(("row", "column", "size"), [(4, 3, 4), (0, 0, 4), (8, 6, 4), (7, 5, 3), (2, 6, 2)])
def test_cutout_by_a_loop(row, column, size):
    out = dsa.cutout(X, row=row, column=column, size=size)
    expected = X.clone()
    for i in range(size):
        for j in range(size):
            r = min(max(row - size // 2 + i, 0), 7)
            c = min(max(column - size // 2 + j, 0), 5)
            expected[:, :, r, c] = 0
    assert torch.equal(out, expected)


def test_flip_by_hand():
    assert torch.equal(dsa.flip(X, u=0.5), X)
    assert torch.equal(dsa.flip(X, u=0.49)[..., 0], X[..., -1])


def test_scale_and_rotate_by_hand():
    torch.testing.assert_close(dsa.scale(X, across=1.0, down=1.0), X, rtol=0, atol=1e-12)
    torch.testing.assert_close(dsa.rotate(X, theta=0.0), X, rtol=0, atol=1e-12)
    square = X[..., :6, :6]
    quarter = dsa.rotate(square, theta=math.pi / 2)
    torch.testing.assert_close(quarter, torch.rot90(square, 1, (2, 3)), rtol=0, atol=1e-12)
    ramp = torch.arange(6.0, dtype=torch.float64).sub(2.5).expand(1, 1, 6, 6)  # equal to the column's place
    inner = dsa.scale(ramp, across=0.5, down=1.0)
    torch.testing.assert_close(inner, ramp * 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 6, 4), (9, 7, 5)])
def test_a_draw_is_one_of_the_six_transforms_with_its_parameters(height, width, size):
    """The middle of an odd square lies on a pixel, that of an even one between two, or on the border."""
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    last, seen = 1 - size % 2, set()
    for seed in range(40):
        out = dsa.dsa(x, torch.Generator().manual_seed(seed))
        draws = torch.Generator().manual_seed(seed)
        name = dsa.STRATEGIES[int(torch.randint(0, 6, (), generator=draws))]

        def u(draws=draws) -> float:
            return float(torch.rand((), generator=draws))

        def integer(low: int, high: int, draws=draws) -> int:
            return int(torch.randint(low, high, (), generator=draws))

        if name == "color":
            expected = dsa.color(x, brightness=u(), saturation=u(), contrast=u())
        elif name == "crop":
            expected = dsa.crop(x, rows=integer(-1, 2), columns=integer(-1, 2))  # an eighth, rounded
        elif name == "cutout":
            expected = dsa.cutout(x, row=integer(0, height + last), column=integer(0, width + last), size=size)
        elif name == "flip":
            expected = dsa.flip(x, u=u())
        elif name == "scale":
            across, down = (u() * (1.2 - 1 / 1.2) + 1 / 1.2 for _ in range(2))
            expected = dsa.scale(x, across=across, down=down)
        else:
            expected = dsa.rotate(x, theta=(u() - 0.5) * 2 * 15 * math.pi / 180)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        seen.add(name)
    assert seen == set(dsa.STRATEGIES)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 32, 32), (5, 3, 7, 9)])
def test_every_draw_keeps_shape_and_stays_finite(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for _ in range(60):
        out = dsa.dsa(x, generator)
        assert out.shape == x.shape and out.dtype == x.dtype and bool(torch.isfinite(out).all())


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"dsa needs images \[n, ch, h, w\], got \[2, 5\]"):
        dsa.dsa(torch.zeros(2, 5), torch.Generator())
