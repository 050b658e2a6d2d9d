"""Small networks and images for tests of rules, in float64, and what is asked of all of them."""

import pytest
import torch
import twins
from torch import nn

import isnetlib


def same(t):
    return t


def relevance(model, x, target=None, *options, **more):
    """As isnetlib.explain, but differentiable by the weights."""
    with isnetlib.LRP(*options, **more) as lrp:
        logits = model(x)
    return lrp.relevance(isnetlib.start_for(logits, target), logits)


def assert_slope(value, parameters, h=1e-7, rel=1e-6, absolute=1e-12):
    """The derivative of value() along a random direction of all parameters is that of finite differences."""
    parameters, ends = list(parameters), []
    slopes = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    directions = [torch.randn_like(p) for p in parameters]
    with torch.no_grad():
        for step in (h, -2 * h, h):
            torch._foreach_add_(parameters, directions, alpha=step)
            ends.append(value().item())
    analytic = sum((slope * d).sum() for slope, d in zip(slopes, directions, strict=True)).item()
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(analytic, rel=rel, abs=absolute)


def images(*size, box=(0.0, 1.0), batch=2):
    low, high = (torch.as_tensor(bound).double().view(-1, 1, 1) for bound in box)
    return low + (high - low) * torch.rand(batch, *size, dtype=torch.float64)


def randomised(model):
    """The model in float64 and eval mode, with biases, BatchNorm weights and statistics drawn at random."""
    for module in model.double().eval().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.3)
    return model


class Between(nn.Module):
    """conv -> f -> linear, for any f(self, z)."""

    def __init__(self, f, size=8):
        super().__init__()
        self.f, self.first = f, nn.Conv2d(3, 4, 3, padding=1)
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.scale = nn.ReLU(inplace=True), nn.Parameter(torch.rand(4, 1, 1))
        self.double()
        with torch.no_grad():
            self.last = nn.Linear(f(self, torch.rand(1, 4, size, size).double()).numel(), 3)
        randomised(self)

    def forward(self, x):
        return self.last(self.f(self, self.first(x)).flatten(1))


def agree(f, twin, **switches):
    """f explained at eps 0 without z^B is input x gradient of the network with `twin` in its place; logits stay."""
    net, x = Between(f), images(3, 8, 8)
    R, plain = isnetlib.explain(net, x, "all", eps=0, box=None, **switches), net(x)
    with isnetlib.LRP(**switches):
        assert torch.allclose(net(x), plain, rtol=1e-10)
    net.f = twin
    assert torch.allclose(net(x), plain, rtol=1e-10)
    assert twins.unlike(R, torch.cat([twins.explain(net, x, c) for c in range(3)], 1)) < 1e-12
