import torch

from fedhpro_flwr.head import Head

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
