"""Head calibration (reference preset): prototypes matched to head gradients, and a head trained on them.

The server keeps M prototypes F_c per class. Matching moves them until the mean gradients of their cross-entropy
with respect to the head, G_c = E^T F_c / M and the row mean of E for E = softmax(F_c W^T + b) - e_c, point
where the clients' did [R.c3]; a fresh head is then trained on them [R.c4]. Both are plain SGD in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from fedhpro_flwr.gradient_matching import prediction_errors
from fedhpro_flwr.head import Head
from fedhpro_flwr.head_matching import HeadDistance, HeadGradients, HeadProducts, head_pull, pulled

# Classes are matched independently of one another, so they go through it in blocks of about this many
# numbers of head gradients: a block then stays in the caches for all its steps.
_BLOCK_GRADIENTS = 1 << 19


def match_prototypes(
    prototypes: Tensor,
    head: Head,
    weight_gradients: Tensor,
    bias_gradients: Tensor,
    class_mask: Tensor,
    *,
    steps: int,
    lr: float,
    distance: HeadDistance = "rowwise",
) -> Tensor:
    """Steps of SGD on sum_c head_distance(head gradients at F_c, the clients' for class c) [R.c3].

    Args:
        prototypes: F [C, M, D].
        head: W, b that the clients took their gradients under.
        weight_gradients: the clients' mean gradients with respect to W, per class: R [C, C, D].
        bias_gradients: the same with respect to b: [C, C].
        class_mask: [C] bool; a class that nobody sent (False) keeps its prototypes bit for bit.
        steps: number of steps >= 0.
        lr: step size.
        distance: see `head_distance`.

    Returns:
        New prototypes in the dtype and on the device of these; all arithmetic is done in that dtype.

    Raises:
        ValueError: for shapes that do not fit together or an unknown distance.
    """
    num_classes, per_class, width = prototypes.shape
    needed = [(num_classes, num_classes, width), (num_classes,) * 2, (num_classes, width), (num_classes,)]
    given = [tuple(t.shape) for t in (weight_gradients, bias_gradients, head.weight, class_mask)]
    if given != needed:
        raise ValueError(
            f"prototypes {tuple(prototypes.shape)} need gradients of weight and bias, a head and a class mask"
            f" of shapes {needed}, got {given}"
        )
    head = head.like(prototypes)
    # Measured: not forming the head gradients is faster if they are more numbers than the products of prototypes.
    by_products = num_classes * width > per_class * (num_classes + width)
    step = _step_by_products if by_products else _step_by_gradients
    matched = prototypes.clone()
    classes_a_block = max(1, _BLOCK_GRADIENTS // (num_classes * width))
    for ids in torch.split(class_mask.to(matched.device).nonzero().squeeze(1), classes_a_block):
        target = HeadGradients(weight_gradients.to(matched)[ids], bias_gradients.to(matched)[ids])
        target_square = HeadProducts.of(target, target)
        block = prototypes[ids]
        for _ in range(steps):
            block = step(block, ids, head, target, target_square, lr, distance)
        matched[ids] = block
    return matched


def fresh_head(num_classes: int, width: int, generator: torch.Generator) -> Head:
    """A new head, drawn as torch draws a Linear: W, then b, uniform in +-1/sqrt(D); float32, [C, D] and [C]."""
    bound = 1.0 / math.sqrt(width)
    device = generator.device
    weight = torch.empty(num_classes, width, device=device).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(num_classes, device=device).uniform_(-bound, bound, generator=generator)
    return Head(weight, bias)


def retrain_head(prototypes: Tensor, start: Head, orders: Iterable[Tensor], *, batch_size: int, lr: float) -> Head:
    """A head trained by SGD on the cross-entropy of prototypes F [C, M, D], labelled by their class [R.c4].

    Sample m of class c has the number c M + m. Each of the `orders` [C M] int64 is the order of an epoch, whose last
    batch may be smaller. All arithmetic is done in the dtype of `start`.
    """
    num_classes, per_class, width = prototypes.shape
    samples = num_classes * per_class
    ones = start.weight.new_ones(samples, 1)
    x = torch.cat([prototypes.detach().to(ones).reshape(samples, width), ones], dim=1)  # [z, 1]: [n, D+1]
    onehot = torch.eye(num_classes).to(ones).repeat_interleave(per_class, dim=1)  # [C, n]
    joint = torch.cat([start.weight.detach(), start.bias.detach()[:, None]], dim=1)  # V = [W | b] [C, D+1]
    for order in orders:
        order = order.to(x.device)
        batches = torch.split(x.index_select(0, order), batch_size)
        truths = torch.split(onehot.index_select(1, order), batch_size, dim=1)
        for xs, truth in zip(batches, truths, strict=True):
            errors = (joint @ xs.T).softmax(dim=0).sub_(truth)  # [C, B]: V x^T is faster than x V^T
            joint.addmm_(errors, xs, alpha=-lr / len(xs))  # [R.c4] V <- V - lr/B (softmax - Y)^T x
    return Head(joint[:, :-1].contiguous(), joint[:, -1].contiguous())


def _step_by_gradients(
    block: Tensor,
    ids: Tensor,
    head: Head,
    target: HeadGradients,
    target_square: HeadProducts,
    lr: float,
    distance: HeadDistance,
) -> Tensor:
    """One step on F [A, M, D] of the classes ids [A], with G and the distance's derivative U formed."""
    per_class = block.shape[1]
    p = head.logits(block).softmax(-1)
    e = prediction_errors(p, ids[:, None].expand(-1, per_class))  # E [A, M, C]
    g = HeadGradients((e.mT @ block).div_(per_class), e.mean(dim=1))
    u, s = pulled(head_pull(HeadProducts.of(g, target), HeadProducts.of(g, g), target_square, distance), g, target)
    stepped = torch.baddbmm(block, e, u, alpha=-lr / per_class)  # [R.c3] the part E U / M of dL/dF
    return _step_through_logits(stepped, p, block @ u.mT + s[:, None], ids, head, lr)


def _step_by_products(
    block: Tensor,
    ids: Tensor,
    head: Head,
    target: HeadGradients,
    target_square: HeadProducts,
    lr: float,
    distance: HeadDistance,
) -> Tensor:
    """The same step from F R^T and Q = F G^T = F F^T E / M: neither G nor U, both [A, C, D], is formed."""
    per_class = block.shape[1]
    p = head.logits(block).softmax(-1)
    e = prediction_errors(p, ids[:, None].expand(-1, per_class))  # E [A, M, C]
    y = block @ target.weight.mT  # F R^T [A, M, C]
    q = (block @ block.mT @ e).div_(per_class)  # F G^T [A, M, C]
    bias = e.mean(dim=1)  # [A, C]
    dot = HeadProducts((e * y).mean(dim=1), (bias * target.bias).sum(-1, keepdim=True))
    # Rounding can leave the square of a vanishing norm below zero.
    own = HeadProducts((e * q).mean(dim=1).clamp_min(0.0), bias.square().sum(-1, keepdim=True))
    pull = head_pull(dot, own, target_square, distance)
    row_target, row_own = pull.row_target[:, None], pull.row_own[:, None]  # [A, 1, C]
    s = pull.bias_target * target.bias + pull.bias_own * bias  # [A, C]
    stepped = torch.baddbmm(block, e * row_target, target.weight, alpha=-lr / per_class)
    stepped.baddbmm_((e * row_own) @ e.mT, block, alpha=-lr / per_class**2)  # [R.c3] E U / M again
    return _step_through_logits(stepped, p, row_target * y + row_own * q + s[:, None], ids, head, lr)


def _step_through_logits(stepped: Tensor, p: Tensor, d_errors: Tensor, ids: Tensor, head: Head, lr: float) -> Tensor:
    """The part dZ W of the step that goes back through the softmax, M dZ = P (d - sum P d) [R.c3]."""
    # The own class's entry is subtracted from d: as with hyper-prototypes, this only avoids cancellation.
    d_errors = d_errors - d_errors.gather(2, ids[:, None, None].expand(-1, p.shape[1], 1))
    d_logits = p * (d_errors - (p * d_errors).sum(-1, keepdim=True))  # [A, M, C]
    stepped.flatten(0, 1).addmm_(d_logits.flatten(0, 1), head.weight, alpha=-lr / p.shape[1])
    return stepped
