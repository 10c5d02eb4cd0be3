"""Finds the `server_app` and `client_app` beside this package, even if the user's project has packages so named.

Flower's usual layout of an app makes such names likely, and whichever comes first on the path hides the other.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def sibling(module: str) -> ModuleType:
    """Import `server_app.strategy` and the like from the folder this package lies in.

    Raises:
        ImportError: there is no such module beside the package.
    """
    package, _, leaf = module.partition(".")
    if _is_ours(package):
        return import_module(module)
    alias = f"fedhpro_flwr.front_doors.{package}"
    if alias not in sys.modules:
        _load(alias, ROOT / package / "__init__.py", [str(ROOT / package)])
    return import_module(f"{alias}.{leaf}")


def _is_ours(package: str) -> bool:
    found = find_spec(package)
    places = [] if found is None else list(found.submodule_search_locations or [])
    return any(Path(place).resolve() == ROOT / package for place in places)


def _load(name: str, path: Path, search: list[str]) -> ModuleType:
    spec = spec_from_file_location(name, path, submodule_search_locations=search)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError(f"{path} is missing: fedhpro-flwr is not completely installed")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
