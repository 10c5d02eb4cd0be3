"""One thread, as the runs themselves have: sums of floats are then the same everywhere, and xdist shares the cores."""

import torch

torch.set_num_threads(1)
