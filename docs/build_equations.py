"""Writes docs/equations.md: which line of the code computes which equation.

    python docs/build_equations.py

The code carries the equation's tag in a remark at the line that computes it; a test compares the file with this.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fedhpro_flwr", "client_app", "server_app")

EQUATIONS = {
    "P.1": "Class gradient of a client, and its mean over the clients that hold the class:<br>"
    "g_k^c = (1/n_k^c) Σ_{i: y_i = c} ∂CE(W z_i + b, y_i)/∂z_i,  g^c = mean_k g_k^c",
    "P.2": "Gradient matching, M SGD steps on S:<br>"
    "min_S Σ_c [1 − cos(g^c, g_HP^c)],  g_HP^c = mean_i ∂CE(W s_i^c + b, c)/∂s_i^c",
    "P.3": "Similarity s_j = mean over K of cos(z, s_i^j); margin d_k = 1/(C−1)² Σ_{a≠b} ‖p_k^a − p_k^b‖₂;<br>"
    "HPCL = mean_i log(1 + Σ_{j≠y} exp((s_j + d_k)/τ) / exp(s_y/τ))",
    "P.4": "HPAL = mean_i Σ_q huber₁(z_iq − H_q^y),  H^c = mean over K of s_i^c",
    "P.5": "Client loss CE + HPCL + HPAL",
    "R.grads": "Reference: class gradients divided by n_c once more",
    "R.hpcl": "Reference: HPCL = (1/B) mean_i [log(Σ_c exp(s_c/τ) + m) − s_y/τ]",
    "R.hpal": "Reference: HPAL = (1/(B·D)) Σ smooth-l1(ẑ − V_y)",
    "R.margin": "Reference: m = Σ_{a≠b} p_a·p_b / (C−1)²",
    "R.c1": "Federated averaging: Σ n_k w_k / Σ n_k",
    "R.c2": "Mean of the clients' gradients, per class, over those that sent the class",
    "R.c3": "Reference: calibration prototypes F matched to the clients' head gradients",
    "R.c4": "Reference: a fresh head trained on F by SGD",
    "R.c5": "Reference: hyper-prototypes moved by coordinate-wise matching",
}

HEAD = """# Which line computes which equation

Made by `python docs/build_equations.py` from the tags in the code; a test keeps it true. P: the paper
(arXiv 2605.13475), R: the reference, the authors' released code.
How the two differ is in [DEVIATIONS.md](../DEVIATIONS.md).

| tag | equation | computed at |
|---|---|---|
"""


def places() -> dict[str, list[str]]:
    """Tag -> `file:line` of every remark that carries it, in order."""
    found: dict[str, list[str]] = {tag: [] for tag in EQUATIONS}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                _, _, remark = line.partition("#")
                for tag in re.findall(r"\[((?:P|R)\.\w+)\]", remark):
                    found[tag].append(f"{path.relative_to(ROOT).as_posix()}:{number}")
    return found


def text() -> str:
    """The whole file."""
    found = places()
    rows = []
    for tag, equation in EQUATIONS.items():
        links = [f"[{place}](../{place.replace(':', '#L')})" for place in found[tag]]
        rows.append(f"| {tag} | {equation} | {'<br>'.join(links)} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "equations.md").write_text(text(), encoding="utf-8")
    print("docs/equations.md is written")
