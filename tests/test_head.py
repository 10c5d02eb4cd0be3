import pytest
import torch
from torch import nn

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.head import Head, head_of, head_shape

HEAD = Head(torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]]), torch.tensor([0.5, -0.5]))


def test_logits_by_hand():
    z = torch.tensor([[1.0, 2.0, 3.0]])
    assert HEAD.logits(z).tolist() == [[7.5, 0.5]]
    assert HEAD.logits(z[None]).shape == (1, 1, 2)


def test_sizes():
    assert (HEAD.num_classes, HEAD.width) == (2, 3)


def test_like_takes_dtype_and_drops_the_gradient():
    trained = Head(HEAD.weight.clone().requires_grad_(), HEAD.bias.clone().requires_grad_())
    copied = trained.like(torch.zeros(1, dtype=torch.float64))
    assert copied.weight.dtype == copied.bias.dtype == torch.float64
    assert not copied.weight.requires_grad and not copied.bias.requires_grad
    assert torch.equal(copied.weight, HEAD.weight.double())


def test_scores_follow_the_features():
    """A server's state stays on the CPU in float32, wherever a model is tested."""
    z = torch.tensor([[1.0, 2.0, 3.0]])
    scores = HEAD.scores(z.double())
    assert scores.dtype == torch.float64 and scores.tolist() == [[7.5, 0.5]]
    assert HEAD.scores(z.to("meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        (nn.Linear(3, 4).state_dict(), "there are weight, bias"),
        ({}, "there are none"),
        ({"head.weight": torch.ones(3)}, r"it is \[3\]"),
    ],
)
def test_what_is_no_model_is_refused(tensors, found):
    with pytest.raises(ConfigError, match=rf"must have a tensor head\.weight \[C, D\], {found}; make it by Model"):
        head_shape(tensors)


def test_a_head_without_a_bias_has_a_shape_and_no_class_gradients():
    tensors = {"head.weight": torch.ones(3, 2)}
    assert head_shape(tensors) == (3, 2)
    with pytest.raises(ConfigError, match=r"^the model's head has no bias, which class gradients need: .*nn\.Linear"):
        head_of(tensors)
