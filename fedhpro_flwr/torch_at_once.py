"""Import torch the quick way: a process imports this module first, before anything else that imports torch.

Torch's modules are some hundred thousand objects that stay until the process ends. The garbage collector would walk
them over and over during the import, and once more at the end. A deployed client is a new process for every message,
so it would pay for this in each round: `python benchmarks/message.py`, docs/speed.md.
"""

from __future__ import annotations

import gc
import sys

if "torch" not in sys.modules:
    enabled = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if enabled:
            gc.enable()
    gc.freeze()
