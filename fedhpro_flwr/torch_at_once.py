"""Import torch the quick way: imported for that alone, before anything else that imports torch, where a process begins.

Torch's modules are some hundred thousand objects that stay until the process ends. The garbage collector walks them
over and over while they come, and all of them once more at the end. A deployed client is a new process for every
message, so this is paid in each round: `python benchmarks/message.py`, docs/speed.md.
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
