"""One confusion matrix per evaluation, and every accuracy read off it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.models import Model


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Test results of one model on one set of samples."""

    confusion: Tensor  # [C, C] int64, row = true class, column = predicted class
    loss: float  # mean cross-entropy

    @property
    def examples(self) -> int:
        """Number of samples."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of samples whose class was predicted."""
        return int(self.confusion.diagonal().sum())

    @property
    def accuracy(self) -> float:
        """Share of samples whose class was predicted; 0 without samples."""
        return self.correct / max(self.examples, 1)

    def class_accuracy(self) -> list[float | None]:
        """Accuracy of every class, None for a class without samples."""
        totals, hits = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        return [hit / total if total else None for hit, total in zip(hits, totals, strict=True)]

    def group_accuracy(self, groups: Sequence[Sequence[int]]) -> list[float | None]:
        """Accuracy over the samples of each group of classes, None for a group without samples."""
        totals, hits = self.confusion.sum(1), self.confusion.diagonal()
        return [
            int(hits[ids].sum()) / int(totals[ids].sum()) if int(totals[ids].sum()) else None
            for ids in (torch.tensor(list(group), dtype=torch.long) for group in groups)
        ]


@torch.no_grad()
def evaluate(
    model: Model, data: ClientData, *, batch_size: int, logits: Callable[[Tensor], Tensor] | None = None
) -> Evaluation:
    """Test a model in eval mode on `data.test`.

    Args:
        model: on the device of the data.
        data: whose test split is used; without one the evaluation is empty.
        batch_size: samples at a time.
        logits: features z [B, D] -> logits [B, C] in place of the model's own head.
    """
    classes = model.num_classes
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=data.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.device)
    if data.test is None:
        return Evaluation(confusion.view(classes, classes).cpu(), 0.0)
    model.eval()
    to_logits = logits or model.head
    for start in range(0, len(data.test), batch_size):
        labels = data.test.labels[start : start + batch_size]  # [B]
        x = data.encoder_inputs(data.test.inputs[start : start + batch_size])
        predicted = to_logits(model.encoder(x))  # [B, C]
        loss += F.cross_entropy(predicted, labels, reduction="sum").double()
        confusion += torch.bincount(labels * classes + predicted.argmax(1), minlength=classes * classes)
    return Evaluation(confusion.view(classes, classes).cpu(), float(loss) / len(data.test))
