"""The folder that `flwr run` packs and sends: the app's three packages, its experiments and its pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

PACKAGES = ("fedhpro_flwr", "server_app", "client_app")


def app_folder(scratch: Path) -> Path:
    """A copy in `scratch`, made at the first call.

    A run that is submitted again hours later must run the code it was begun with, though the checkout has moved on;
    and an installed wheel has its pyproject.toml and experiments in another place.
    """
    staged = scratch / "fedhpro-flwr"
    if not staged.exists():
        root = Path(__file__).resolve().parents[2]
        checkout = (root / "pyproject.toml").exists()
        for package in PACKAGES:
            shutil.copytree(root / package, staged / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy((root if checkout else root / "fedhpro_flwr" / "app") / "pyproject.toml", staged)
        shutil.copytree((root if checkout else root / "fedhpro_flwr") / "conf", staged / "conf")
    return staged
