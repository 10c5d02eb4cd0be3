"""Normalisation, crop and flip against plain loops."""

from __future__ import annotations

import pytest
import torch

from fedhpro_flwr.client.local_steps import epoch
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data import Split
from fedhpro_flwr.data.augment import Crops, crop_and_flip_alike, to_float
from fedhpro_flwr.settings.sections import LocalOptions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_to_float_by_hand():
    inputs = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = to_float(inputs, (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0.2, 2.0]), rtol=0, atol=1e-7)
    assert inputs.flatten().tolist() == [0, 51, 255]


def test_to_float_equals_the_usual_transforms():
    inputs = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8, generator=seeded())
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    out = to_float(inputs, mean, std)
    for c in range(3):
        expected = (inputs[:, c].float() / 255 - torch.tensor(mean[c])) / torch.tensor(std[c])
        assert torch.equal(out[:, c], expected)


def test_to_float_of_floats():
    vectors = torch.tensor([[1.0, -2.0]])
    out = to_float(vectors, (0.0,), (1.0,))
    assert torch.equal(out, vectors) and out is not vectors
    images = torch.full((1, 1, 2, 2), 0.75)
    assert torch.equal(to_float(images, (0.5,), (0.5,)), torch.full((1, 1, 2, 2), 0.5))


def loop(x: torch.Tensor, rows: list[int], columns: list[int], mirrored: list[bool], padding: int) -> torch.Tensor:
    """Pixel by pixel: out[b, :, r, c] = x[b, :, r + row - p, c' + column - p], zero outside."""
    out = torch.zeros_like(x)
    count, _, height, width = x.shape
    for b in range(count):
        for r in range(height):
            for c in range(width):
                from_row = r + rows[b] - padding
                from_column = (width - 1 - c if mirrored[b] else c) + columns[b] - padding
                if 0 <= from_row < height and 0 <= from_column < width:
                    out[b, :, r, c] = x[b, :, from_row, from_column]
    return out


def crop_and_flip_each(x, **given):
    return Crops.draw(len(x), **given).cut(x)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(7, 3, 6, 5), (4, 1, 8, 8), (1, 2, 3, 3)])
def test_per_sample_by_a_loop(shape, flip, channels_last):
    x = torch.randn(shape, generator=seeded(1))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = crop_and_flip_each(x, flip=flip, generator=seeded(9))
    draws = seeded(9)
    rows = torch.randint(9, (len(x), 1), generator=draws).flatten().tolist()
    columns = torch.randint(9, (len(x), 1), generator=draws).flatten().tolist()
    mirrored = (torch.rand(len(x), 1, generator=draws) < 0.5).flatten().tolist() if flip else [False] * len(x)
    assert torch.equal(out, loop(x, rows, columns, mirrored, 4))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("flip", [False, True])
def test_the_batches_of_an_epoch_are_cropped_by_their_own_draws(flip):
    x = torch.randn(7, 3, 6, 5, generator=seeded(1))
    data = ClientData(Split(x, torch.arange(7)), None, (0.0,) * 3, (1.0,) * 3)
    local = LocalOptions(batch_size=3, augment="per-sample", flip=flip)
    draws, sizes = seeded(9), []
    for out, chosen in epoch(data, local, seeded(2), seeded(9)):
        n = len(chosen)
        rows, columns = (torch.randint(9, (n, 1), generator=draws).flatten().tolist() for _ in range(2))
        mirrored = (torch.rand(n, 1, generator=draws) < 0.5).flatten().tolist() if flip else [False] * n
        assert torch.equal(out, loop(x[chosen], rows, columns, mirrored, 4))
        sizes.append(n)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("flip", [False, True])
def test_per_batch_by_a_loop(flip):
    x = torch.randn(5, 3, 6, 7, generator=seeded(1))
    seen = set()
    for seed in range(6):
        out = crop_and_flip_alike(x, flip=flip, generator=seeded(seed))
        draws = seeded(seed)
        row, column = (int(torch.randint(9, (), generator=draws)) for _ in range(2))
        mirrored = flip and float(torch.rand((), generator=draws)) < 0.5
        assert torch.equal(out, loop(x, [row] * 5, [column] * 5, [mirrored] * 5, 4))
        seen.add(mirrored)
    assert seen == ({False, True} if flip else {False})


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("draw", [crop_and_flip_each, crop_and_flip_alike])
def test_mirrored_or_not_an_image_is_laid_out_alike(draw, layout):
    """A convolution rounds otherwise in another layout, and is slower."""
    x = torch.randn(5, 3, 6, 7, generator=seeded(1)).contiguous(memory_format=layout)
    wanted = torch.channels_last if draw is crop_and_flip_each else layout
    for seed in range(6):
        assert draw(x, generator=seeded(seed)).is_contiguous(memory_format=wanted)


def test_per_sample_draws_are_uniform():
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    out = crop_and_flip_each(x.expand(20_000, 1, 9, 9), generator=seeded(3))
    where = out.sum(0)[0] / 20_000  # the one white pixel lands everywhere with probability 1/81
    assert float((where - 1 / 81).abs().max()) < 5 * (1 / 81 / 20_000) ** 0.5
    assert torch.equal(out.sum((1, 2, 3)), torch.ones(20_000))


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    crop_and_flip_each(torch.zeros(2, 3, 4, 4), generator=seeded())
    crop_and_flip_alike(torch.zeros(2, 3, 4, 4), generator=seeded())
    assert torch.equal(torch.random.get_rng_state(), before)
