"""The ablations' rules against networks written out by hand."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import assert_slope, images, randomised, relevance
from torch import nn
from twins import unlike

import isnetlib

EPS, LIVE = 0.1, {"statistics": "live"}


class Net(nn.Module):
    """All that the ablations touch; `f` replaces functions by name."""

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.hidden, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        randomised(self)

    def forward(self, x, act=F.relu, norm=None, mark=lambda y: y, after_sum=F.relu):
        norm = norm or (lambda module, z: module(z))
        a = mark(F.max_pool2d(act(norm(self.norm1, self.first(x))), 2))
        a = after_sum(mark(mark(norm(self.norm2, self.conv(a))) + a))
        return mark(self.last(act(self.hidden(mark(F.adaptive_avg_pool2d(a, 1)).flatten(1)))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def by_autograd(net, x, target=1, **functions):
    x = x.clone().requires_grad_()
    logits = net(x, **functions)
    return (x * torch.autograd.grad(logits[:, target].sum(), x)[0])[:, None].detach()


def rho(z):
    return twins.ModifiedGradient.apply(z, twins.real["relu"], EPS)


def test_block_adds_eps_at_logits_pools_and_sums(net):
    x = images(3, 8, 8)
    mark = lambda y: twins.ModifiedGradient.apply(y, lambda t: t.clone(), EPS)  # noqa: E731
    R = isnetlib.explain(net, x, 1, EPS, None, ablation={"block": True})
    assert unlike(R, by_autograd(net, x, act=rho, mark=mark)) < 1e-12
    assert unlike(R, isnetlib.explain(net, x, 1, EPS, None)) > 1e-2


def test_live_statistics_are_those_of_plain_back_propagation(net):
    x = images(3, 8, 8)
    net.train()
    twin = by_autograd(net, x, act=rho, after_sum=rho)
    live = isnetlib.explain(net, x, 1, EPS, None, ablation=LIVE)
    assert unlike(live, twin) < 1e-10
    assert unlike(isnetlib.explain(net, x, 1, EPS, None), twin) > 1e-2
    net.eval()
    assert torch.equal(isnetlib.explain(net, x, 1, EPS, ablation=LIVE), isnetlib.explain(net, x, 1, EPS))


def detached_ratio(conv, norm, last, x):
    """R of conv - BatchNorm - ReLU - linear: x W^T (gamma / sigma) y / (z' + eps) v, with biases detached in z'."""
    shape, c, mean = (1, -1, 1, 1), F.conv2d(x, conv.weight, padding=1), norm.running_mean
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()

    def z(bias, shift):
        return (c + bias.view(shape) - mean.view(shape)) * scale.view(shape) + shift.view(shape)

    y, below = z(conv.bias, norm.bias).relu(), z(conv.bias.detach(), norm.bias.detach())
    ratio = torch.where(y > 0, y / (below + EPS), 0.0)
    G = ratio * last.weight[1].view(y.shape[1:]) * scale.view(shape)
    return x * F.conv_transpose2d(G, conv.weight, padding=1)


def test_detached_biases_are_constant_in_denominators():
    torch.manual_seed(0)
    conv, norm, last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4 * 36, 3)
    net = randomised(nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), last))
    x, v = images(3, 6, 6), torch.randn(2, 3, 6, 6).double()
    parameters = [conv.weight, conv.bias, norm.weight, norm.bias]

    def slopes(R):
        return torch.cat([s.flatten() for s in torch.autograd.grad((R * v).sum(), parameters)])

    def ours(**ablation):
        return relevance(net, x, 1, EPS, None, ablation=ablation)[:, 0]

    twin, R = detached_ratio(conv, norm, last, x), ours(biases="detached")
    assert unlike(R, ours()) < 1e-12 and unlike(R, twin) < 1e-12
    expected = slopes(twin)
    assert unlike(slopes(R), expected) < 1e-10 and unlike(slopes(ours()), expected) > 1e-2


@pytest.mark.parametrize("switches, mode", [(LIVE, True), (LIVE, False), ({"block": True}, False)])
def test_ablations_can_be_trained_through(net, switches, mode):
    """Finite differences; in train mode only live statistics have the derivative of their own values."""
    x, v = images(3, 8, 8), torch.randn(2, 1, 3, 8, 8).double()
    net.train(mode)
    assert_slope(lambda: (relevance(net, x, 1, EPS, None, ablation=switches) * v).sum(), net.parameters(), rel=1e-5)


def test_unknown_ablations_are_explained():
    for wrong in ({"statistics": "dead"}, {"biases": "constant"}, {"block": 3}, {"nonsense": 1}):
        with pytest.raises(ValueError, match="unknown ablation .*; known: .*statistics.*live"):
            isnetlib.ISNet(nn.Identity(), ablation=wrong)
    with pytest.raises(ValueError, match="cannot be combined"):
        isnetlib.LRP(ablation={"biases": "detached", "block": True})
