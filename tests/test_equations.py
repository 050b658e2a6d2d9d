"""LRP-eps and z^B: against the equations written out, and against zennit."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as models
import twins
from small_nets import images, randomised
from test_architectures import small_head
from torch import nn
from twins import unlike
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import NameLayerMapComposite
from zennit.rules import Epsilon, Norm, Pass, ZBox
from zennit.types import Activation, AvgPool, Linear

import isnetlib

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.2, 0.3, 0.25]).double()
pytestmark = pytest.mark.usefixtures("seed")
BOXES = {"unit": (0.0, 1.0), "wide": (-2.0, 3.0), "standardised": ((0 - MEAN) / STD, (1 - MEAN) / STD)}


class Small(nn.Module):
    """Convolutions with BatchNorm, an overlapping max pool, a residual sum, a concatenation and an average pool."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
        self.third = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4))
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.fourth = nn.Sequential(nn.AvgPool2d(2, 1), nn.Conv2d(8, 5, 2), nn.BatchNorm2d(5))
        self.last = nn.Linear(5, 3)
        randomised(self)

    def forward(self, x):
        p = self.pool(F.relu(self.first(x)))
        r = self.third(F.relu(self.second(p)))
        r += self.shortcut(p)
        return self.last(F.relu(self.fourth(torch.cat([F.relu(r), p], 1))).flatten(1))


@torch.no_grad()
def by_hand(net, x, target, eps, low, high, chain=None):
    """Relevance of one image x (C, H, W), layer after layer; chain: what happens to x before the first layer."""
    A, t = twins.affine(chain, x.shape) if chain else (None, 0.0)
    pixels = chain(x[None])[0] if chain else x
    a1 = F.relu(net.first(pixels[None]))[0]
    p = net.pool(a1[None])[0]
    a2 = F.relu(net.second(p[None]))[0]
    a3 = F.relu(net.third(a2[None]) + net.shortcut(p[None]))[0]
    a4 = F.relu(net.fourth(torch.cat([a3, p])[None])).flatten()

    def through(f, inputs, R):
        W, b = twins.affine(f, *[a.shape for a in inputs])
        parts = twins.epsilon_rule(torch.cat([a.flatten() for a in inputs]), W, b, R.flatten(), eps)
        return [part.view(a.shape) for part, a in zip(parts.split([a.numel() for a in inputs]), inputs, strict=True)]

    R4 = a4 * net.last.weight[target]
    R3, Rp = through(lambda u, v: net.fourth(torch.cat([u, v], 1)), [a3, p], R4)
    R2, Rq = through(lambda u, v: net.third(u) + net.shortcut(v), [a2, p], R3)
    (Rr,) = through(net.second, [p], R2)
    R1 = twins.max_pool_rule(a1, Rp + Rq + Rr, 3, 2, 1)
    W, b = twins.affine(net.first, pixels.shape)
    low, high = (torch.as_tensor(bound).double().view(-1, 1, 1).expand_as(x).flatten() for bound in (low, high))
    return twins.z_box_rule(x.flatten(), low, high, W, b, R1.flatten(), eps, A, t).view(x.shape)


@pytest.mark.parametrize("box, eps", [("unit", 1e-2), ("wide", 0.0), ("standardised", 0.0), ("standardised", 0.3)])
def test_relevance_follows_the_equations(box, eps):
    net, x = Small(), images(3, 12, 12, box=BOXES[box])
    twin = torch.stack([by_hand(net, one, 1, eps, *BOXES[box]) for one in x])
    assert unlike(isnetlib.explain(net, x, "all", eps, BOXES[box])[:, 1], twin) < 1e-12


def standardise(x):
    return (x - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


def standardise_by_channel(x):
    return torch.cat([(x[:, k : k + 1] - MEAN[k].item()) / STD[k].item() for k in range(3)], dim=1)


def resize_and_pad(x):
    return F.pad(F.interpolate(x, scale_factor=0.75, mode="bilinear"), (1, 2, 2, 1), value=0.5)


CHAINS = [standardise, standardise_by_channel, resize_and_pad, lambda x: standardise(F.avg_pool2d(x, 2).flip(-1))]


@pytest.mark.parametrize("chain", CHAINS)
def test_z_box_sees_the_pixels_through_what_comes_before_the_first_layer(chain):
    class Chained(Small):
        def forward(self, x):
            return super().forward(chain(x))

    size = 24 if chain is CHAINS[-1] else 12
    net, x = Chained(), images(3, size, size, batch=1)
    twin = by_hand(net, x[0], 2, 1e-2, 0.0, 1.0, chain)
    assert unlike(isnetlib.explain(net, x, 2)[0, 0], twin) < 1e-12


@torch.no_grad()
def test_first_layers_read_more_than_once():
    """Two layers read the image, and two operations read one of them."""
    one, two, last = (randomised(layer) for layer in (nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(64, 3)))

    class Branches(nn.Module):
        def forward(self, x):
            z = one(x)
            return last((z.relu() + z / 2 + two(x).relu()).flatten(1))

    (x,) = images(3, 6, 6, batch=1)
    R, G = torch.zeros(108).double(), last.weight[1]
    for conv, slope in ((one, 0.5), (two, 0.0)):
        z = conv(x).flatten()
        W, b = twins.affine(conv, x.shape)
        R1 = z * G * ((z > 0) + slope)
        R += twins.z_box_rule(x.flatten(), torch.zeros_like(R), torch.ones_like(R), W, b, R1, 0.1)
    assert unlike(isnetlib.explain(Branches(), x[None], 1, 0.1).flatten(), R) < 1e-12


@pytest.mark.parametrize("later", [[nn.ReLU(), nn.Linear(3, 2)], []])
def test_first_layer_may_be_linear_and_the_last(later):
    class First(nn.Linear):
        def forward(self, x):
            logits = super().forward(x.flatten(1))
            logits.relu()  # read, but by nothing that counts
            return logits

    net, (x,) = randomised(nn.Sequential(First(27, 3), *later)), images(3, 3, 3, batch=1)
    zero, one, first = torch.zeros(27).double(), torch.ones(27).double(), net[0]
    y = first(x[None])[0]
    start = y.relu() * later[1].weight[1] if later else y * torch.eye(3).double()[1]
    R = twins.z_box_rule(x.flatten(), zero, one, first.weight, first.bias, start, 0.1)
    assert unlike(isnetlib.explain(net, x[None], 1, 0.1).flatten(), R) < 1e-12


def by_zennit(model, x, target, eps, low, high):
    """Epsilon at convolutions and linear layers, z^B at the first, LRP-0 at the last and at pools; BatchNorm merged."""
    model = deepcopy(model)
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    names = [(layers[:1], ZBox(low, high, stabilizer=eps)), (layers[-1:], Epsilon(0.0))]
    kinds = [(Activation, Pass()), (AvgPool, Norm(1e-15)), (Linear, Epsilon(eps))]
    composite = NameLayerMapComposite(names, kinds, [SequentialMergeBatchNorm()])
    with Gradient(model, composite) as attributor:
        logits, relevance = attributor(x, lambda y: y * F.one_hot(torch.tensor(target), y.shape[1]))
    return relevance[:, None]


def test_zennit_agrees_on_a_stack_of_convolutions():
    """zennit's D leaves biases out: here the bias is written as a fourth input, fixed at 1 in [0, 1]."""
    later = [nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(6, 5, 3, 1, 1), nn.BatchNorm2d(5), nn.ReLU()]
    later += [nn.AvgPool2d(2, 1), nn.Conv2d(5, 5, 2), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)]
    net = randomised(nn.Sequential(nn.Conv2d(3, 6, 3, 1, 1), *later))
    for norm in net[4], net[8]:
        norm.eps = 1e-14  # by whose root zennit's merged BatchNorm still divides
    four = nn.Conv2d(4, 6, 3, 1, 1, bias=False).double()
    with torch.no_grad():
        four.weight[:, :3], four.weight[:, 3] = net[0].weight, 0
        four.weight[:, 3, 1, 1] = net[0].bias
    x, (low, high) = images(3, 10, 10, box=BOXES["standardised"]), BOXES["standardised"]
    low, high = (F.pad(bound, (0, 1), value=k).view(1, 4, 1, 1) for k, bound in enumerate((low, high)))
    twin = by_zennit(nn.Sequential(four, *net[1:]), torch.cat([x, torch.ones_like(x[:, :1])], 1), 1, 0.05, low, high)
    assert unlike(isnetlib.explain(net, x, 1, 0.05, BOXES["standardised"]), twin[:, :, :3]) < 1e-10


def test_zennit_agrees_on_vgg11_bn():
    """A first layer whose bias, BatchNorm merged, is not positive adds nothing to D in either."""
    net, x = randomised(small_head(models.vgg11_bn(init_weights=False), 512 * 49)), images(3, 32, 32)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14
        if isinstance(module, nn.ReLU):
            module.inplace = False
    conv, norm = net.features[:2]
    with torch.no_grad():
        level = (norm.running_mean - conv.bias) * norm.weight / norm.running_var.sqrt()
        norm.bias.copy_(level - torch.rand_like(norm.bias))
    assert unlike(isnetlib.explain(net, x, 1, 1e-2), by_zennit(net, x, 1, 1e-2, 0.0, 1.0)) < 1e-10
