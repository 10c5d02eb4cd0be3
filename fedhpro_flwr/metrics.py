"""One confusion tensor per evaluation, and every accuracy read off it.

The tensor counts samples by domain, true class and predicted class: [G, C, C], G = 1 if there are no domains. Only the
cells that are not zero are kept: a thousand clients with a thousand classes would fill eight gigabytes otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.models import Model

Scores = Callable[[Tensor], Tensor]  # features z [B, D] -> a score for each class [B, C]; the largest wins


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Test results of one model on one set of samples, or of several together."""

    cells: Tensor  # [E, 4] int64: domain, true class, predicted class, count; a cell may come in several parts
    num_classes: int  # C
    loss: float  # mean cross-entropy

    @property
    def examples(self) -> int:
        """Number of samples."""
        return int(self.cells[:, 3].sum())

    @property
    def correct(self) -> int:
        """Number of samples whose class was predicted."""
        return int(self._hits[:, 3].sum())

    @property
    def accuracy(self) -> float:
        """Share of samples whose class was predicted; 0 without samples."""
        return self.correct / max(self.examples, 1)

    @property
    def names_one_class(self) -> bool:
        """Whether the same class is predicted for all samples."""
        return len(torch.unique(self.cells[:, 2])) == 1

    def class_accuracy(self) -> list[float | None]:
        """Accuracy of every class over all domains, None for a class without samples."""
        return _shares(*(_by(1, cells, self.num_classes) for cells in (self._hits, self.cells)))

    def domain_accuracy(self) -> list[float | None]:
        """Accuracy of every domain over all classes, None for a domain without samples."""
        return _shares(*(_by(0, cells, self._domains) for cells in (self._hits, self.cells)))

    def group_accuracy(self, groups: Sequence[Sequence[int]]) -> list[float | None]:
        """Accuracy over the samples of each group of classes, None for a group without samples."""
        ids = [torch.tensor(list(group), dtype=torch.long) for group in groups]
        hits, totals = (_by(1, cells, self.num_classes) for cells in (self._hits, self.cells))
        return _shares(torch.stack([hits[i].sum() for i in ids]), torch.stack([totals[i].sum() for i in ids]))

    @classmethod
    def together(cls, results: Iterable[Evaluation]) -> Evaluation:
        """Several results, of the same classes, as one; the loss is the mean over all samples."""
        each = list(results)
        examples = sum(result.examples for result in each)
        loss = sum(result.loss * result.examples for result in each) / max(examples, 1)
        return cls(torch.cat([result.cells for result in each]), each[0].num_classes, loss)

    @property
    def _hits(self) -> Tensor:
        return self.cells[self.cells[:, 1] == self.cells[:, 2]]

    @property
    def _domains(self) -> int:
        return int(self.cells[:, 0].max()) + 1 if len(self.cells) else 1


@torch.no_grad()
def evaluate_each(
    model: Model, data: ClientData, scores: Sequence[Scores], *, batch_size: int
) -> tuple[Evaluation, ...]:
    """One evaluation for each of several ways to score classes, in eval mode, on features that are computed once.

    Args:
        model: on the device of the data.
        data: its test split is used; if it has none, the evaluations are empty.
        scores: the ways, such as the model's head; the loss is the cross-entropy of these scores.
        batch_size: samples at a time.
    """
    classes, test = model.num_classes, data.test
    if test is None:
        return tuple(Evaluation(torch.zeros(0, 4, dtype=torch.int64), classes, 0.0) for _ in scores)
    predicted = [torch.empty_like(test.labels) for _ in scores]  # [N]
    losses = [torch.zeros((), dtype=torch.float64, device=data.device) for _ in scores]
    model.eval()
    for start in range(0, len(test), batch_size):
        batch = slice(start, start + batch_size)
        z = model.encoder(data.encoder_inputs(test.inputs[batch]))  # [B, D]
        for decide, chosen, loss in zip(scores, predicted, losses, strict=True):
            logits = decide(z)  # [B, C]
            loss += F.cross_entropy(logits, test.labels[batch], reduction="sum").double()
            chosen[batch] = logits.argmax(1)
    domains = torch.zeros_like(test.labels) if test.domains is None else test.domains
    return tuple(
        Evaluation(_count(domains, test.labels, chosen, classes), classes, float(loss) / len(test))
        for chosen, loss in zip(predicted, losses, strict=True)
    )


def _count(domains: Tensor, labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Samples by domain, true class and predicted class: three times [N] -> cells [E, 4], in ascending order."""
    codes, counts = torch.unique((domains * classes + labels) * classes + predicted, return_counts=True)
    rows = codes // classes
    return torch.stack([rows // classes, rows % classes, codes % classes, counts], dim=1).cpu()


def _by(column: int, cells: Tensor, size: int) -> Tensor:
    """Counts summed by domain (column 0) or by true class (column 1): [size]."""
    return torch.zeros(size, dtype=torch.int64).index_add_(0, cells[:, column], cells[:, 3])


def _shares(hits: Tensor, totals: Tensor) -> list[float | None]:
    return [hit / total if total else None for hit, total in zip(hits.tolist(), totals.tolist(), strict=True)]
