"""An evaluation from the whole confusion tensor by domain, true class and predicted class, and back."""

import torch

from fedhpro_flwr.metrics import Evaluation


def evaluation_of(confusion, loss):
    """From the whole tensor [G, C, C] of int64."""
    where = confusion.nonzero()  # [E, 3]
    return Evaluation(torch.cat([where, confusion[tuple(where.T)][:, None]], dim=1), confusion.shape[-1], loss)


def confusion_of(result):
    """The whole tensor [G, C, C]; G is the largest domain that has samples, plus one."""
    domains = int(result.cells[:, 0].max()) + 1 if len(result.cells) else 1
    whole = torch.zeros((domains, result.num_classes, result.num_classes), dtype=torch.int64)
    return whole.index_put_(tuple(result.cells[:, :3].T), result.cells[:, 3], accumulate=True)
