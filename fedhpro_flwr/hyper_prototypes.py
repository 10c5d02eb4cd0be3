"""Hyper-prototypes: K learnable vectors per class that the server matches to the clients' class gradients.

The virtual gradient of class c is the mean gradient of the cross-entropy at its own K vectors,
g_c = mean_k (softmax(W s_k + b) - e_c) W, and M steps of SGD on S lower the distance of g_c from the clients'
mean class gradient [P.2] [R.c5]. The step's derivative is a closed form: nothing is differentiated twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedhpro_flwr.gradient_matching import MatchingDistance, matching_gradient, prediction_errors
from fedhpro_flwr.head import Head

Start = Literal["normal", "orthogonal"]
VirtualScale = Literal["mean", "mean-of-mean"]

# Classes are updated independently of one another, so they go through it in blocks of about this many logits:
# small enough for the caches, large enough that a step is all matrix product.
_BLOCK_LOGITS = 1 << 19


def slot_weights(vectors: Tensor) -> Tensor:
    """The weight of each vector in its class's mean: S [C, K, D] -> [C, K], rows that sum to one.

    If classes have different numbers of vectors, K is the largest and a class's unused slots hold zero vectors. A used
    vector is never zero, so S itself tells which slots are used.
    """
    used = vectors.ne(0).any(dim=-1)  # [C, K]
    used |= ~used.any(dim=1, keepdim=True)  # a class with zero vectors only uses all
    return used.to(vectors) / used.sum(dim=1, keepdim=True)


def mean_over_slots(values: Tensor, vectors: Tensor) -> Tensor:
    """Mean over the used slots of S [C, K, D]: values [C, K, ...] -> [C, ...]."""
    weights = slot_weights(vectors)
    if bool((weights == weights[0, 0]).all()):
        return values.mean(dim=1)
    return torch.einsum("ck,ck...->c...", weights.to(values), values)


@dataclass(frozen=True, eq=False)
class HyperPrototypes:
    """The state that lives on the server and travels to every client."""

    vectors: Tensor  # S [C, K, D]; zeros in the slots that a class does not use

    @classmethod
    def start(
        cls,
        num_classes: int,
        prototypes_per_class: int,
        width: int,
        *,
        init: Start = "normal",
        counts: Mapping[int, int] | None = None,
        generator: torch.Generator,
    ) -> HyperPrototypes:
        """S before the first round, in float32 on the generator's device.

        "normal" draws S ~ N(0, 1), the published start. "orthogonal" gives each class one direction of a
        random orthonormal frame, all K vectors of the class on it, with norm sqrt(D / K): that of a class
        mean under "normal".

        Args:
            num_classes: C.
            prototypes_per_class: K of every class that `counts` does not name.
            width: D.
            init: see above.
            counts: K of the classes with another number of vectors, by class id.
            generator: for the draws.

        Raises:
            ValueError: "orthogonal" with C > D, a count for a class that does not exist, or an unknown `init`.
        """
        device, counts = generator.device, counts or {}
        unknown = [label for label in counts if not 0 <= label < num_classes]
        if unknown:
            raise ValueError(f"a count is for class {unknown[0]}, there are 0 to {num_classes - 1}")
        per_class = torch.tensor([counts.get(label, prototypes_per_class) for label in range(num_classes)]).to(device)
        slots = int(per_class.max())
        used = torch.arange(slots, device=device) < per_class[:, None]  # [C, K]
        if init == "normal":
            drawn = torch.randn(num_classes, slots, width, generator=generator, device=device)
            return cls(drawn * used[..., None])
        if init != "orthogonal":
            raise ValueError(f"init must be 'normal' or 'orthogonal', got {init!r}")
        if num_classes > width:
            raise ValueError(
                f"init 'orthogonal' needs no more classes than the features are wide,"
                f" got {num_classes} classes and width {width}"
            )
        draw = torch.randn(width, num_classes, generator=generator, device=device)
        frame = torch.linalg.qr(draw).Q.T * (width / per_class[:, None]).sqrt()  # [C, D]
        return cls(frame[:, None, :] * used[..., None])

    def means(self) -> Tensor:
        """H, the mean over the K vectors of each class: [C, D]."""
        return mean_over_slots(self.vectors, self.vectors)

    def update(
        self,
        target: Tensor,
        class_mask: Tensor,
        head: Head,
        *,
        steps: int,
        lr: float,
        distance: MatchingDistance = "cosine",
        virtual_scale: VirtualScale = "mean",
    ) -> HyperPrototypes:
        """M steps of SGD on sum_c distance(g_c, target_c) [P.2] [R.c5].

        Args:
            target: the clients' mean class gradients r [C, D].
            class_mask: [C] bool; a class that nobody sent (False) keeps its vectors bit for bit.
            head: W, b that the virtual gradients are taken under.
            steps: M >= 0.
            lr: step size of the server.
            distance: see `matching_distance`.
            virtual_scale: "mean" over the K vectors (paper); "mean-of-mean" divides by K again (reference).

        Returns:
            New hyper-prototypes in the dtype and on the device of these, in which everything is computed.

        Raises:
            ValueError: for shapes that do not fit together, or an unknown distance or virtual scale.
        """
        num_classes, per_class, width = self.vectors.shape
        if target.shape != (num_classes, width) or class_mask.shape != (num_classes,):
            raise ValueError(
                f"hyper-prototypes {list(self.vectors.shape)} need a target [{num_classes}, {width}]"
                f" and a class mask [{num_classes}], got {list(target.shape)} and {list(class_mask.shape)}"
            )
        if head.weight.shape != (num_classes, width):
            raise ValueError(
                f"hyper-prototypes of {num_classes} classes and width {width} do not fit a head"
                f" {list(head.weight.shape)}"
            )
        if virtual_scale not in ("mean", "mean-of-mean"):
            raise ValueError(f"virtual_scale must be 'mean' or 'mean-of-mean', got {virtual_scale!r}")
        weights = slot_weights(self.vectors)  # [C, K]
        # scale of the virtual gradient [C, 1]: 1, or 1 / (the class's number of vectors) once more
        scale = torch.ones_like(weights[:, :1]) if virtual_scale == "mean" else weights.amax(dim=1, keepdim=True)
        head = head.like(self.vectors)
        gram = head.weight @ head.weight.T if num_classes <= 2 * width else None  # [C, C]
        vectors = self.vectors.clone()
        classes_a_block = max(1, _BLOCK_LOGITS // (per_class * num_classes))
        target = target.to(vectors)
        for ids in torch.split(class_mask.to(vectors.device).nonzero().squeeze(1), classes_a_block):
            block = (self.vectors[ids], target[ids], weights[ids], scale[ids])
            vectors[ids] = _matched(*block, ids, head, gram, steps, lr, distance)
        return HyperPrototypes(vectors)

    def relative_movement(self, before: HyperPrototypes) -> float:
        """The distance from earlier ones, relative to their length: |S - S0| / |S0|."""
        moved = torch.linalg.vector_norm(self.vectors - before.vectors)
        return float(moved / torch.linalg.vector_norm(before.vectors))


def _matched(
    vectors: Tensor,
    target: Tensor,
    weights: Tensor,
    scale: Tensor,
    ids: Tensor,
    head: Head,
    gram: Tensor | None,
    steps: int,
    lr: float,
    distance: MatchingDistance,
) -> Tensor:
    """A block of A classes after all their steps: S [A, K, D], targets [A, D] of the classes ids [A].

    `weights` [A, K] and `scale` [A, 1] combine the gradients of a class's vectors into its virtual gradient.

    dL/dS = Q W with Q [A, K, C] below, so S never leaves S_0 + (row space of W). With the Gram matrix W W^T
    the logits are therefore stepped directly and S is formed once, at the end; without it (C > 2 D, where the
    Gram matrix would be the larger factor) S is stepped and the logits are formed anew.
    """
    weights = weights[:, None, :]  # [A, 1, K]
    logits = head.logits(vectors)  # [A, K, C]
    travelled = torch.zeros_like(logits)  # sum of Q over the steps, for the Gram form
    for _ in range(steps):
        p = logits.softmax(dim=-1)
        errors = prediction_errors((weights @ p).squeeze(1), ids)  # mean_k softmax - e_c [A, C]
        g = (errors @ head.weight).mul_(scale)  # virtual gradient [A, D]
        u = matching_gradient(g, target, distance)  # [A, D]
        v = (u @ head.weight.T).mul_(lr * scale)[:, None, :]  # [A, 1, C]
        # A constant added to v does not change q. With v_c = 0 for the own class c, q_c is a sum over the others: of
        # small numbers if p is nearly e_c, and not the difference of two large ones.
        v = v - v.gather(2, ids[:, None, None])
        q = (v - p @ v.mT).mul_(p).mul_(weights.mT)  # back through the softmax, times lr: [A, K, C]
        if gram is None:
            vectors = vectors - q @ head.weight  # [P.2] [R.c5] S <- S - lr dL/dS
            logits = head.logits(vectors)
        else:
            travelled += q
            logits = logits - q @ gram  # [P.2] [R.c5] the same step, seen by the logits
    return vectors if gram is None else vectors - travelled @ head.weight
