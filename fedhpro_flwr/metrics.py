"""One confusion tensor per evaluation, and every accuracy read off it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.models import Model

Scores = Callable[[Tensor], Tensor]  # features z [B, D] -> a score for each class [B, C]; the largest wins


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Test results of one model on one set of samples; a sum of them is the results of several."""

    confusion: Tensor  # [G, C, C] int64: domain, true class, predicted class; G = 1 where there are no domains
    loss: float  # mean cross-entropy

    @property
    def examples(self) -> int:
        """Number of samples."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of samples whose class was predicted."""
        return int(self._hits.sum())

    @property
    def accuracy(self) -> float:
        """Share of samples whose class was predicted; 0 without samples."""
        return self.correct / max(self.examples, 1)

    def class_accuracy(self) -> list[float | None]:
        """Accuracy of every class over all domains, None for a class without samples."""
        return _shares(self._hits.sum(0), self._totals.sum(0))

    def domain_accuracy(self) -> list[float | None]:
        """Accuracy of every domain over all classes, None for a domain without samples."""
        return _shares(self._hits.sum(1), self._totals.sum(1))

    def group_accuracy(self, groups: Sequence[Sequence[int]]) -> list[float | None]:
        """Accuracy over the samples of each group of classes, None for a group without samples."""
        ids = [torch.tensor(list(group), dtype=torch.long) for group in groups]
        hits, totals = self._hits.sum(0), self._totals.sum(0)
        return _shares(torch.stack([hits[i].sum() for i in ids]), torch.stack([totals[i].sum() for i in ids]))

    def cells(self) -> Tensor:
        """The entries that are not zero: domain, true class, predicted class, count [E, 4] int64."""
        where = self.confusion.nonzero()  # [E, 3]
        return torch.cat([where, self.confusion[tuple(where.T)][:, None]], dim=1)

    @classmethod
    def of_cells(cls, cells: Tensor, num_classes: int, loss: float) -> Evaluation:
        """The inverse of `cells`; G is the largest domain that has samples, plus one."""
        domains = int(cells[:, 0].max()) + 1 if len(cells) else 1
        confusion = torch.zeros(domains, num_classes, num_classes, dtype=torch.int64)
        confusion.index_put_(tuple(cells[:, :3].T), cells[:, 3], accumulate=True)
        return cls(confusion, loss)

    def __add__(self, other: Evaluation) -> Evaluation:
        """Both results as one; the loss is the mean over all samples."""
        larger = max(len(self.confusion), len(other.confusion))
        padded = [F.pad(each.confusion, (0, 0, 0, 0, 0, larger - len(each.confusion))) for each in (self, other)]
        weight = self.examples + other.examples
        loss = (self.loss * self.examples + other.loss * other.examples) / max(weight, 1)
        return Evaluation(padded[0] + padded[1], loss)

    @property
    def _hits(self) -> Tensor:  # [G, C]
        return self.confusion.diagonal(dim1=1, dim2=2)

    @property
    def _totals(self) -> Tensor:  # [G, C]
        return self.confusion.sum(2)


def evaluate(model: Model, data: ClientData, *, batch_size: int, scores: Scores | None = None) -> Evaluation:
    """Test a model in eval mode on `data.test`.

    Args:
        model: on the device of the data.
        data: whose test split is used; without one the evaluation is empty.
        batch_size: samples at a time.
        scores: what decides in place of the model's own head; the loss is the cross-entropy of these scores.
    """
    return evaluate_each(model, data, [scores or model.head], batch_size=batch_size)[0]


@torch.no_grad()
def evaluate_each(
    model: Model, data: ClientData, scores: Sequence[Scores], *, batch_size: int
) -> tuple[Evaluation, ...]:
    """One evaluation for each of several ways to decide, on features that are computed once."""
    classes, test = model.num_classes, data.test
    if test is None:
        return tuple(Evaluation(torch.zeros(1, classes, classes, dtype=torch.int64), 0.0) for _ in scores)
    domains = 1 if test.domains is None else int(test.domains.max()) + 1
    confusions = [torch.zeros(domains * classes * classes, dtype=torch.int64, device=data.device) for _ in scores]
    losses = [torch.zeros((), dtype=torch.float64, device=data.device) for _ in scores]
    model.eval()
    for start in range(0, len(test), batch_size):
        batch = slice(start, start + batch_size)
        labels = test.labels[batch]  # [B]
        rows = labels if test.domains is None else test.domains[batch] * classes + labels
        z = model.encoder(data.encoder_inputs(test.inputs[batch]))  # [B, D]
        for decide, confusion, loss in zip(scores, confusions, losses, strict=True):
            predicted = decide(z)  # [B, C]
            loss += F.cross_entropy(predicted, labels, reduction="sum").double()
            confusion += torch.bincount(rows * classes + predicted.argmax(1), minlength=len(confusion))
    return tuple(
        Evaluation(confusion.view(domains, classes, classes).cpu(), float(loss) / len(test))
        for confusion, loss in zip(confusions, losses, strict=True)
    )


def _shares(hits: Tensor, totals: Tensor) -> list[float | None]:
    return [hit / total if total else None for hit, total in zip(hits.tolist(), totals.tolist(), strict=True)]
