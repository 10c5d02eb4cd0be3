"""What augmentation and batching keep for every shape and seed."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.client.local_steps import epoch
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data import Split
from fedhpro_flwr.data.augment import Crops, crop_and_flip_alike, to_float
from fedhpro_flwr.settings.sections import LocalOptions

SEEDS = st.integers(0, 2**63 - 1)
SIDES = st.integers(1, 9)


@given(st.integers(1, 5), st.integers(1, 3), SIDES, SIDES, st.booleans(), SEEDS)
def test_every_image_is_a_window_of_its_padded_self(count, channels, height, width, flip, seed):
    x = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) + 1
    for draw in (lambda x, **given: Crops.draw(count, **given).cut(x), crop_and_flip_alike):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        out, again = (draw(x, flip=flip, generator=g) for g in generators)
        assert out.shape == x.shape and torch.equal(out, again)
        padded = torch.nn.functional.pad(x, (4,) * 4)
        for image, source in zip(out, padded, strict=True):
            windows = [source[:, r : r + height, c : c + width] for r in range(9) for c in range(9)]
            windows += [window.flip(-1) for window in windows] if flip else []
            assert any(torch.equal(image, window) for window in windows)


@given(st.integers(1, 6), st.integers(1, 3), SIDES, SIDES, SEEDS)
def test_a_batch_is_normalised_sample_by_sample(count, channels, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    mean, std = (0.3,) * channels, (0.7,) * channels
    out = to_float(inputs, mean, std)
    assert torch.equal(out, torch.cat([to_float(image[None], mean, std) for image in inputs]))
    assert torch.equal((out * 0.7 + 0.3).mul(255).round().to(torch.uint8), inputs)


@given(st.integers(1, 200), st.integers(1, 50), SEEDS)
def test_an_epoch_visits_every_sample_once(samples, size, seed):
    order, drawn, augmentation = (torch.Generator().manual_seed(seed) for _ in range(3))
    data = ClientData(Split(torch.arange(samples).float()[:, None], torch.arange(samples)), None, (0.0,), (1.0,))
    for _ in range(2):  # the second epoch goes on with what the first left of the generator
        parts = list(epoch(data, LocalOptions(batch_size=size), order, augmentation))
        assert all(torch.equal(x, labels[:, None].float()) for x, labels in parts)
        assert torch.equal(torch.cat([labels for _, labels in parts]), torch.randperm(samples, generator=drawn))
        assert all(len(labels) == size for _, labels in parts[:-1]) and len(parts[-1][1]) <= size
