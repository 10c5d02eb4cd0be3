"""Class gradients against the reference's per-class backward passes [R.grads]."""

import torch

from fedhpro_flwr.gradient_matching import class_gradients
from fedhpro_flwr.head import Head

GOLDEN = "class_grads_s*.npz"


def test_class_gradients(golden, precision, dtype):
    selected = golden.tensor("selected", torch.int64)  # [repeats, C, batch], -1 where there is no sample
    pooled = selected[selected >= 0]
    batch_counts = (selected[0] >= 0).sum(dim=1)
    head = Head(golden.tensor("W", dtype), golden.tensor("b", dtype))
    labels = golden.tensor("labels", torch.int64)
    gradients = class_gradients(
        golden.tensor("features", dtype)[pooled],
        labels[pooled],
        head,
        counts=torch.bincount(labels, minlength=head.num_classes),
        scale="per-batch",
        batch_counts=batch_counts,
        head_gradients=True,
    )

    mask = golden.tensor("mask", torch.bool)
    assert gradients.class_ids.tolist() == mask.nonzero().squeeze(1).tolist()
    assert gradients.counts.tolist() == [int((labels == c).sum()) for c in gradients.class_ids]
    for name, rows in {
        "feat_grad": gradients.by_features,
        "W_grad": gradients.by_head_weight,
        "b_grad": gradients.by_head_bias,
    }.items():
        every = torch.zeros(len(mask), *rows.shape[1:], dtype=dtype)
        every[gradients.class_ids] = rows
        golden.check(every, f"{name}_{precision}")


def test_feature_gradient_is_an_image_of_the_bias_gradient(golden):
    """What the reference uploads as feature gradient is W^T b_grad / n_c."""
    counts = (golden.tensor("selected", torch.int64)[0] >= 0).sum(dim=1).clamp_min(1)
    image = golden.tensor("b_grad_f64") @ golden.tensor("W") / counts[:, None]
    golden.check(image, "feat_grad_f64")
