"""What the documentation says is true: the equation map, the files it names, and the code it shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from fedhpro_flwr.config import known_keys
from fedhpro_flwr.data import DATA_SETS
from fedhpro_flwr.methods import METHODS
from fedhpro_flwr.models import MODELS, build

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "docker" / "README.md"])


@pytest.fixture(scope="module")
def equations() -> ModuleType:
    spec = spec_from_file_location("build_equations", ROOT / "docs" / "build_equations.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_equation_map_is_what_the_code_says(equations: ModuleType) -> None:
    assert (ROOT / "docs" / "equations.md").read_text(encoding="utf-8") == equations.text(), (
        "run: python docs/build_equations.py"
    )


def test_every_equation_is_computed_somewhere(equations: ModuleType) -> None:
    assert [tag for tag, found in equations.places().items() if not found] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_find_it(page: Path) -> None:
    found = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    markdown = [(page.parent / target if target else page, anchor) for target, anchor in found]
    assert [anchor for target, anchor in markdown if target.suffix == ".md" and anchor not in anchors(target)] == []


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("experiments", [path.stem for path in (ROOT / "conf").glob("*.toml")]),
        ("data", list(DATA_SETS)),
        ("methods", list(METHODS)),
        ("own-models-and-methods", list(MODELS)),
    ],
)
def test_all_that_a_setting_can_choose_stands_on_its_page(name: str, chosen: list[str]) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert [choice for choice in chosen if f"`{choice}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_on_the_page_exist(page: Path) -> None:
    named = re.findall(r"--set ([a-z.-]+)=", page.read_text(encoding="utf-8"))
    assert [key for key in named if key not in known_keys()] == []


def test_deviations_has_a_row_for_each_discrepancy() -> None:
    rows = re.findall(r"^\| (D\d+) \|", (ROOT / "DEVIATIONS.md").read_text(encoding="utf-8"), flags=re.M)
    assert rows == [f"D{number}" for number in range(1, 21)]


@pytest.fixture
def registries() -> Iterator[None]:
    """What an example registers is gone after its test."""
    kept = [(registry, dict(registry)) for registry in (DATA_SETS, METHODS, MODELS)]
    yield
    for registry, before in kept:
        registry.clear()  # type: ignore[attr-defined]
        registry.update(before)  # type: ignore[attr-defined]


def examples(word: str) -> str:
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("own-*.md"))
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if word in block]
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, to add files to."""
    folder = tmp_path_factory.mktemp("copy")
    for package in ("fedhpro_flwr", "server_app", "client_app"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(
    ("package", "registry", "name"),
    [("data", "DATA_SETS", "weather"), ("models", "MODELS", "two-layers"), ("methods", "METHODS", "small-features")],
)
def test_a_block_of_the_page_is_one_file_and_one_name_in_an_import_list(
    copied: Path, package: str, registry: str, name: str
) -> None:
    folder, module = copied / "fedhpro_flwr" / package, name.replace("-", "_")
    (folder / f"{module}.py").write_text(examples(f'"{name}")\n'), encoding="utf-8")
    imports = folder / "__init__.py"
    listed = f"from fedhpro_flwr.{package} import (  # noqa: F401  they register themselves\n"
    before = imports.read_text(encoding="utf-8")
    assert before.count(listed) == 1
    imports.write_text(before.replace(listed, f"{listed}    {module},\n"), encoding="utf-8")
    code = (
        f"from fedhpro_flwr.{package} import {registry}; print({name!r} in {registry}, {registry}[{name!r}].__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=copied, capture_output=True, text=True)
    assert done.stdout.split() == ["True", f"fedhpro_flwr.{package}.{module}"], done.stderr


def test_a_file_of_ones_own_that_does_not_import_is_named(copied: Path) -> None:
    folder = copied / "fedhpro_flwr" / "methods"
    before = (folder / "fedprox.py").read_text(encoding="utf-8")
    (folder / "fedprox.py").write_text("import no_such_library\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "fedhpro_flwr.cli", "run"], cwd=copied, capture_output=True, text=True, timeout=120
    )
    (folder / "fedprox.py").write_text(before, encoding="utf-8")
    assert done.stderr.splitlines()[0] == (
        f"fedhpro: {folder / 'fedprox.py'} does not import (No module named 'no_such_library'); install what it needs, "
        "or correct it"
    )


def test_the_model_on_the_page_works(registries: None) -> None:
    exec(examples("@model"), {})
    net = build("two-layers", input_shape=(1, 4, 4), num_classes=3, width=5, seed=0)
    assert net(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_the_data_set_on_the_page_works(registries: None, tmp_path: Path) -> None:
    from fedhpro_flwr.data import DataSource, load

    parts = (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), torch.zeros(2, 2), torch.tensor([0, 1]))
    exec(examples("@data_set"), {"read_my_files": lambda root: parts})
    assert load(DataSource(name="weather", root=str(tmp_path))).num_classes == 2


@pytest.mark.parametrize("name", ["small-features", "centred"])
def test_the_methods_on_the_page_work(name: str, registries: None, tmp_path: Path) -> None:
    from client_app.app import app as client_app
    from fedhpro_flwr.config import RunConfig
    from fedhpro_flwr.launch.in_process import run_in_process
    from fedhpro_flwr.runs.run_folder import read_rounds
    from server_app.app import app as server_app

    exec(examples(f'@method("{name}")'), {})
    changes = {"rounds": 2, "partition.num-partitions": 3, "local.epochs": 1, "method.name": name}
    config = RunConfig.parse(changes | {"run-folder": str(tmp_path)})
    run_in_process(server_app, client_app, 3, config.flat())
    (tmp_path / "summary.json").unlink()
    longer = config.flat() | {"resume": str(tmp_path), "rounds": 3}
    run_in_process(server_app, client_app, 3, longer)
    assert [line["server_round"] for line in read_rounds(tmp_path)] == [1, 2, 3]


def test_the_csv_on_the_page_becomes_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedhpro_flwr.data import DataSource, load

    lines = [f"{name},{number},{number / 2}" for number, name in enumerate(4 * ["sun", "rain", "snow"])]
    (tmp_path / "mine.csv").write_text("\n".join(["label,wind,heat", *lines]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(examples("np.loadtxt"), {})
    data = load(DataSource(name="npz", path=str(tmp_path / "mine.npz"), classes="rain, snow, sun"))
    samples = [split.inputs[split.labels == label] for split in (data.train, data.test) for label in range(3)]
    together = {name: torch.cat(samples[label::3]) for label, name in enumerate(data.class_names)}
    assert {name: sorted(found[:, 0].tolist()) for name, found in together.items()} == {
        "rain": [1, 4, 7, 10], "snow": [2, 5, 8, 11], "sun": [0, 3, 6, 9],
    }  # fmt: skip


def test_the_apps_on_the_page_run_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedhpro_flwr import FedHProStrategy, Model

    torch.manual_seed(0)
    x, y = torch.randn(12, 4), torch.arange(12) % 2
    names = {"MyModel": lambda: Model(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)), "torch": torch, "x": x, "y": y}
    results = []

    class Noted(FedHProStrategy):
        def start(self, *given: Any, **named: Any) -> Any:
            results.append(super().start(*given, **named, num_rounds=2, evaluate_fn=names["evaluate"]))
            return results[-1]

    monkeypatch.setattr("fedhpro_flwr.FedHProStrategy", Noted, raising=False)
    client = examples("def client_side").replace('context.node_config["data-path"]', "task.partition_id")
    parts = {"read_folder": lambda partition: (x[partition::3], y[partition::3])}
    modules = {"server": dict(names), "client": names | parts}
    exec(examples("def evaluate("), names)
    exec(examples("app = ServerApp()"), modules["server"])
    exec(client, modules["client"])
    app = SimpleNamespace(**{name: SimpleNamespace(app=module["app"]) for name, module in modules.items()})
    monkeypatch.setitem(sys.modules, "my_app", app)
    exec(examples("run_in_process("), {})
    assert [list(record) for record in results[0].evaluate_metrics_serverapp.values()] == [["f1"]] * 3
