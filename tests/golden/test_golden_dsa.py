"""The six transforms of the reference's augmentation, with the parameters it drew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedhpro_flwr.data import dsa

GOLDEN = "dsa_s*.npz"

Number = Callable[[str], float]
TRANSFORMS: dict[str, Callable[[Tensor, Number], Tensor]] = {
    "color": lambda x, n: dsa.color(x, brightness=n("b"), saturation=n("s"), contrast=n("c")),
    "crop": lambda x, n: dsa.crop(x, rows=int(n("tx")), columns=int(n("ty"))),
    "cutout": lambda x, n: dsa.cutout(x, row=int(n("ox")), column=int(n("oy")), size=int(n("size"))),
    "flip": lambda x, n: dsa.flip(x, u=n("u")),
    "scale": lambda x, n: dsa.scale(x, across=n("sx"), down=n("sy")),
    "rotate": lambda x, n: dsa.rotate(x, theta=n("theta")),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform(golden, name):
    x = golden.tensor("x", torch.float32)
    out = TRANSFORMS[name](x, lambda key: float(golden.arrays[f"{name}_{key}"].reshape(-1)[0]))
    golden.check(out, f"{name}_out", tolerance=1e-5)
    if name == "cutout":
        assert golden.arrays["cutout_size"].item() == int(dsa.CUTOUT_SHARE * x.shape[2] + 0.5)
