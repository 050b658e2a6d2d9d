"""The ablations' rules against networks written out by hand."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import images, randomised
from torch import nn
from twins import unlike

import isnetlib

EPS = 0.1


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
    R = isnetlib.explain(net, x, 1, EPS, None, block=True)
    assert unlike(R, by_autograd(net, x, act=rho, mark=mark)) < 1e-12
    assert unlike(R, isnetlib.explain(net, x, 1, EPS, None)) > 1e-2
    assert isnetlib.explain(net, x, "selective", EPS, block=True).isfinite().all()
    with isnetlib.LRP(block=True) as lrp:
        net(x)
    with pytest.raises(ValueError, match="block=True needs the logits"):
        lrp.relevance(torch.ones(2, 1, 3).double())


def test_live_statistics_are_those_of_plain_back_propagation(net):
    x = images(3, 8, 8)
    net.train()
    twin = by_autograd(net, x, act=rho, after_sum=rho)
    live = isnetlib.explain(net, x, 1, EPS, None, statistics="live")
    assert unlike(live, twin) < 1e-10
    assert unlike(isnetlib.explain(net, x, 1, EPS, None), twin) > 1e-2
    net.eval()
    constant = isnetlib.explain(net, x, 1, EPS)
    assert torch.equal(isnetlib.explain(net, x, 1, EPS, statistics="live"), constant)


class DetachedRatio(nn.Module):
    """R of conv - BatchNorm - ReLU - linear: x W^T (gamma / sigma) y / (z' + eps) v, with biases detached in z'."""

    def relevance(self, conv, norm, last, x):
        shape = (1, -1, 1, 1)
        c = F.conv2d(x, conv.weight, padding=1)
        mean, var = norm.running_mean, norm.running_var
        scale = norm.weight / (var + norm.eps).sqrt()

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

    def ours(**switches):
        with isnetlib.LRP(EPS, None, **switches) as lrp:
            logits = net(x)
        return lrp.relevance(isnetlib.start_for(logits, 1), logits)[:, 0]

    twin, R = DetachedRatio().relevance(conv, norm, last, x), ours(biases="detached")
    assert unlike(R, ours()) < 1e-12 and unlike(R, twin) < 1e-12
    expected = slopes(twin)
    assert unlike(slopes(R), expected) < 1e-10 and unlike(slopes(ours()), expected) > 1e-2


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_detached_biases_change_no_value(net, mode, box):
    x = images(3, 8, 8)
    net.train(mode)
    R = isnetlib.explain(net, x, "all", EPS, box)
    assert unlike(isnetlib.explain(net, x, "all", EPS, box, biases="detached"), R) < 1e-12


@pytest.mark.parametrize("switches", [{"statistics": "live"}, {"block": True}])
@pytest.mark.parametrize("mode", [True, False])
def test_ablations_can_be_trained_through(net, switches, mode):
    """Finite differences; in train mode only live statistics have the derivative of their own values."""
    if mode and "block" in switches:
        pytest.skip("constant batch statistics: test_lrp.py")
    x, v, h = images(3, 8, 8), torch.randn(2, 1, 3, 8, 8).double(), 1e-7
    net.train(mode)

    def value():
        with isnetlib.LRP(EPS, None, **switches) as lrp:
            logits = net(x)
        return (lrp.relevance(isnetlib.start_for(logits, 1), logits) * v).sum()

    parameters, ends = list(net.parameters()), []
    slopes = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    directions = [torch.randn_like(p) for p in parameters]
    with torch.no_grad():
        for step in (h, -2 * h):
            torch._foreach_add_(parameters, directions, alpha=step)
            ends.append(value().item())
    analytic = sum((s * d).sum() for s, d in zip(slopes, directions, strict=True)).item()
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(analytic, rel=1e-5)


def test_switches_of_isnet_reach_the_relevance_pass(net):
    x, y, mask = images(3, 8, 8), torch.tensor([0, 1]), torch.ones(2, 1, 8, 8)
    mask[..., 4:] = 0
    losses = {}
    for name, switches in {"": {}, "block": {"block": True}, "live": {"statistics": "live"}}.items():
        losses[name] = isnetlib.ISNet(net.train(), **switches).loss(x, y, mask)[1]["background"]
    assert len(set(losses.values())) == 3


def test_unknown_switches_are_explained():
    for switches in ({"statistics": "dead"}, {"biases": "constant"}):
        with pytest.raises(ValueError, match='statistics must be "constant" or "live", biases "live" or "detached"'):
            isnetlib.LRP(**switches)
    with pytest.raises(ValueError, match="cannot be combined"):
        isnetlib.LRP(biases="detached", block=True)
