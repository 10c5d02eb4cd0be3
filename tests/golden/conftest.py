"""Golden vectors: what the authors' released functions computed for seeded inputs, one .npz file a case.

They lie in the folder of the environment's FEDHPRO_GOLDEN_DIR, else beside the repository in ../shared/golden. A
test module names the files it reads by a pattern, GOLDEN = "margin_s*.npz", and takes the fixture `golden`; it then
runs once for every file there is, whatever its seed and shape.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

DTYPES = {"f32": torch.float32, "f64": torch.float64}


def golden_folder() -> Path:
    """The folder of the golden vectors, which need not exist."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "golden"
    return Path(os.environ.get("FEDHPRO_GOLDEN_DIR") or beside)


def golden_files(pattern: str) -> list[Path]:
    """The files of a pattern, by name."""
    return sorted(golden_folder().glob(pattern))


@dataclass(frozen=True)
class Golden:
    """The arrays of one file."""

    path: Path
    arrays: dict[str, np.ndarray]

    def tensor(self, key: str, dtype: torch.dtype = torch.float64) -> Tensor:
        """An array as a tensor of a dtype."""
        return torch.from_numpy(np.asarray(self.arrays[key])).to(dtype)

    def number(self, key: str) -> float:
        """A scalar as a float."""
        return float(self.arrays[key])

    def integer(self, key: str) -> int:
        """A scalar as an int."""
        return int(self.arrays[key])

    def tolerance(self, key: str) -> float:
        """1e-9 for float64 outputs, 1e-5 for those stored rounded to float32, 2e-5 for float32 outputs."""
        if key.endswith("_f64"):
            return 1e-5 if self.arrays[key].dtype == np.float32 else 1e-9
        return 2e-5

    def check(self, actual: Tensor, key: str, *, tolerance: float | None = None) -> None:
        """Assert |actual - expected| <= tolerance (1 + |expected|), number by number."""
        tolerance = self.tolerance(key) if tolerance is None else tolerance
        torch.testing.assert_close(
            actual.detach().double(),
            self.tensor(key),
            atol=tolerance,
            rtol=tolerance,
            msg=lambda m: f"{key}: {m}",
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run of a test for each of its module's golden files; without any, one that is skipped and says why."""
    if "golden" not in metafunc.fixturenames:
        return
    pattern: str = metafunc.module.GOLDEN
    files = golden_files(pattern)
    if not files:
        why = f"no golden vectors {pattern} in {golden_folder()}; set FEDHPRO_GOLDEN_DIR to their folder"
        metafunc.parametrize("golden", [pytest.param(None, marks=pytest.mark.skip(reason=why))], ids=["none"])
        return
    metafunc.parametrize("golden", files, ids=[file.stem for file in files], indirect=True)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    with np.load(request.param) as arrays:
        return Golden(request.param, dict(arrays))


@pytest.fixture(params=["f32", "f64"])
def precision(request: pytest.FixtureRequest) -> str:
    """The suffix of the outputs to compare with; `DTYPES` has the dtype."""
    return str(request.param)


@pytest.fixture
def dtype(precision: str) -> torch.dtype:
    return DTYPES[precision]
