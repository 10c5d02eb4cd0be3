"""Eight pictures, and an encoder that costs nothing and counts how often it is loaded.

`from noise_pictures import ...` works in this folder's tests: importlib mode puts no folder on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from noise_pictures import Mosaic, noise

from fedhpro_flwr.data import picture_features
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Eight pictures of two classes, of several sizes, one of them grey."""
    root = tmp_path / "data" / "pictures"
    for c, name in enumerate(("bay", "field")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            content = noise(10 * c + i, 30 + i, 40 - 3 * i, "L" if i == 3 else "RGB")
            (root / name / f"{i}.png").write_bytes(content)
    return root


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The encoder is Mosaic; says how often it was loaded."""
    loaded: list[Path] = []

    def fake(path: Path) -> FrozenEncoder:
        loaded.append(path)
        return FrozenEncoder("mosaic", Mosaic(float(path.read_text())), 20, 16, (0.0,) * 3, (1.0,) * 3)

    monkeypatch.setattr(picture_features, "frozen_encoder", fake)
    return loaded


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "power.txt"
    file.write_text("1.0")
    return file
