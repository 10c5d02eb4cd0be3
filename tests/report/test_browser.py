"""The page in a real browser: nothing overflows on a phone or a laptop, nothing is fetched, every picture is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedhpro_flwr.report.build import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<!DOCTYPE html><meta charset="utf-8"><title>probe</title>
<iframe src="out/index.html" style="border:0;width:%dpx;height:900px"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {
  const inner = event.target.contentWindow, page = inner.document;
  const pictures = [...page.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect());
  const said = document.createElement("pre");
  said.id = "said";
  said.textContent = JSON.stringify({
    inner: inner.innerWidth,
    width: page.documentElement.scrollWidth,
    pictures: pictures.map((box) => [box.width, box.height]),
    raster: [...page.querySelectorAll("image")].map((image) => image.getBBox().width),
    texts: page.querySelectorAll("figure svg text").length,
    fetched: inner.performance.getEntriesByType("resource").map((entry) => entry.name),
    columns: inner.getComputedStyle(page.body).display,
  });
  document.body.append(said);
});
</script>
"""


class Addresses(HTMLParser):
    """Every attribute of a document that can lead somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]


@pytest.fixture
def report(make_run, tmp_path: Path) -> Path:
    """Of three groups, one with a name that is long and has no space to break at."""
    for seed in (0, 1):
        make_run(f"a{seed}", [0.25, 0.5], seed=seed, data__domains="north,south")
        make_run(f"b{seed}", [0.25, 0.75], seed=seed, data__domains="north,south", method__name="fedavg")
    make_run("c", [0.5], data__domains="north,south", data__path="a-very-long-name-of-a-file" * 4 + ".npz")
    return write_report([tmp_path / "runs"], tmp_path / "out")


def test_every_address_is_inside_the_page(report: Path):
    text = report.read_text(encoding="utf-8")
    addresses = Addresses()
    addresses.feed(text)
    assert len(addresses.found) > 5
    assert [each for each in addresses.found if not each.startswith(("data:", "#"))] == []
    assert all(each.startswith("#") for each in re.findall(r"url\((.*?)\)", text))
    assert "@import" not in text
    targets = {each[1:] for each in addresses.found if each.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
@pytest.mark.parametrize(("width", "layout"), [(360, "block"), (1280, "grid")])
def test_in_a_browser(width: int, layout: str, report: Path, tmp_path: Path):
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % width)
    process = subprocess.run(
        [
            *(str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"),
            *(
                f"--user-data-dir={tmp_path / 'profile'}",
                "--allow-file-access-from-files",
                "--virtual-time-budget=5000",
            ),
            *("--dump-dom", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="said">(.*?)</pre>', process.stdout, flags=re.S)
    assert found, process.stderr[-2000:]
    said = json.loads(found.group(1))
    assert said["inner"] == width
    assert said["width"] <= width
    assert said["columns"] == layout
    assert len(said["pictures"]) == len(list((tmp_path / "out").glob("*.png")))
    assert all(wide > 200 and high > 40 for wide, high in said["pictures"])
    assert all(side > 0 for side in said["raster"])
    assert said["texts"] > 20
    assert [address for address in said["fetched"] if not address.startswith("data:")] == []
