"""What the recorder cannot see is refused, never dropped; what autograd hides inside, is seen."""

import pytest
import torch
import torch.nn.functional as F
from architectures import _layer_norm
from small_nets import Between, images, relevance, same
from torch import nn
from torch.utils.checkpoint import checkpoint
from twins import unlike

import isnetlib
from isnetlib import ISNet, NotCovered, check, explain

pytestmark = [pytest.mark.filterwarnings("ignore:`torch.jit"), pytest.mark.usefixtures("seed")]


def scripted():
    @torch.jit.script
    def relu(z):
        return torch.relu(z)

    return relu


class Numpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return torch.from_numpy(z.detach().numpy().clip(min=0))

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


W = torch.randn(4, 4, 1, 1, generator=torch.Generator().manual_seed(0)).double()
SEEN = {  # of two tensors (B, 4, 6, 6); hold: what makes a gate constant, for the twin
    "conv": lambda a, b, hold: F.conv2d(a, W),
    "relu": lambda a, b, hold: F.relu(a),
    "relu in place": lambda a, b, hold: F.relu(a.clone(), inplace=True),
    "add": lambda a, b, hold: a + b,
    "add in place": lambda a, b, hold: a.clone().add_(b),
    "subtract": lambda a, b, hold: a - b / 2,
    "cat": lambda a, b, hold: torch.cat([a[:, :2], b[:, 2:]], 1),
    "gate": lambda a, b, hold: a * hold(b.sigmoid()),
    "max": lambda a, b, hold: F.max_pool2d(a, 3, 1, 1),
    "mean": lambda a, b, hold: a + b.mean((2, 3), keepdim=True),
    "attention": lambda a, b, hold: (hold((a.flatten(2) @ b.flatten(2).mT).softmax(-1)) @ b.flatten(2)).view(a.shape),
    "norm": lambda a, b, hold: F.layer_norm(a, (6,)) if hold is same else _layer_norm(a, (6,)),
}
UNSEEN = {
    "scripted": lambda a, b, hold: scripted()(a),
    "numpy": lambda a, b, hold: Numpy.apply(a),
    "fourier": lambda a, b, hold: torch.fft.irfft2(torch.fft.rfft2(a), s=(6, 6)),
    "complex": lambda a, b, hold: torch.complex(a, b).real,
    "kernel": lambda a, b, hold: F.conv2d(a, b.mean((0, 2, 3)).view(4, 1, 1, 1).expand(4, 4, 1, 1)),
    "product": lambda a, b, hold: a * b,
    "no rule": lambda a, b, hold: a.sin(),
}


class Random(nn.Module):
    """Steps that each read two of the tensors made so far; the sum of the last and of another goes to the logits."""

    def __init__(self, generator, unseen):
        super().__init__()
        pick = lambda n: torch.randint(n, (), generator=generator).item()  # noqa: E731
        names = list(SEEN) + (list(UNSEEN) if unseen else [])
        self.steps = [(names[pick(len(names))], pick(k + 1), pick(k + 1)) for k in range(7)]
        self.also, self.first, self.last = pick(8), nn.Conv2d(3, 4, 3).double(), nn.Linear(4, 2).double()

    def forward(self, x, hold=same):
        made = [self.first(x)]
        for name, a, b in self.steps:
            made.append((SEEN | UNSEEN)[name](made[a], made[b], hold))
        return self.last((made[-1] + made[self.also]).mean((2, 3)))


@pytest.mark.parametrize("way", [explain, relevance])
@pytest.mark.parametrize("unseen", [False, True])
def test_random_graphs_are_right_or_refused(way, unseen):
    generator, right = torch.Generator().manual_seed(1), 0
    for k in range(80):
        net, x = Random(generator, unseen), torch.rand(2, 3, 8, 8).double()
        leaf = x.clone().requires_grad_()
        twin = (x * torch.autograd.grad(net(leaf, torch.Tensor.detach)[:, 1].sum(), leaf)[0])[:, None]
        try:
            R = way(net, x, 1, 0.0, None).detach()
        except NotCovered as error:
            assert unseen or "both factors" in str(error), (k, net.steps)
            assert "the model itself (Random): " in str(error)
            continue
        assert (R - twin).norm() <= 1e-9 * twin.norm() + 1e-12, (k, net.steps)
        right += 1
    assert right > 10


ARGUMENTS = {
    "bias of linear": lambda s, z: F.linear(z.mT, z.new_ones(8, 8), z.mean((0, 1, 2))),
    "weight of linear": lambda s, z: F.linear(torch.ones_like(z), z[0, 0]),
    "weight of layer norm": lambda s, z: F.layer_norm(z, (8,), z.mean((0, 1, 2))),
    "weight of batch norm": lambda s, z: F.batch_norm(z, s.norm.running_mean, s.norm.running_var, z.mean((0, 2, 3))),
    "slope of prelu": lambda s, z: F.prelu(z - 1, z.mean((0, 2, 3))),
}


@pytest.mark.parametrize("head", ARGUMENTS.values(), ids=ARGUMENTS)
def test_weights_made_from_the_image_are_refused(head):
    for use in (check, explain):
        with pytest.raises(NotCovered, match=r"\): \w+: an argument other than the first depends on the image"):
            use(Between(head), (3, 8, 8) if use is check else images(3, 8, 8))


def batch():
    mask = torch.zeros(4, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    return images(3, 8, 8, batch=4), torch.tensor([0, 1, 2, 0]), mask


def test_isnet_refuses_what_a_frozen_part_hides():
    net, constant = Between(lambda s, z: s.conv(z + scripted()(z))), torch.rand(4, 1, 1)
    net.first.requires_grad_(False)
    with pytest.raises(NotCovered, match="made out of sight"):
        ISNet(net).loss(*batch())
    net.f = lambda s, z: s.conv(z + constant)
    ISNet(net).loss(*batch())


def test_weights_made_before_the_forward_pass_are_constants():
    net, x = Between(lambda s, z: z), images(3, 8, 8)
    net.f, net.made = lambda s, z: F.conv2d(z, s.made, padding=1), net.conv.weight * 2
    R = relevance(net, x, 1)
    assert torch.autograd.grad(R.sum(), net.conv.weight)[0].any()
    net.made = net.made.detach()
    assert unlike(explain(net, x, 1), R.detach()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_told(dtype):
    net = Between(lambda s, z: z).to(dtype)
    for use in (lambda: check(net, (3, 8, 8)), lambda: explain(net, torch.rand(2, 3, 8, 8, dtype=dtype))):
        with pytest.raises(ValueError, match="half precision: keep the model and images in float32"):
            use()


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        s = torch.sigmoid(z)
        return g * s * (1 + z * (1 - s))


def block(s, z):
    return F.relu(s.norm(s.conv(z)))


HIDING = {
    "reentrant": (lambda s, z: z + checkpoint(block, s, z, use_reentrant=True), lambda s, z: z + block(s, z)),
    "checkpoint": (lambda s, z: z + checkpoint(block, s, z, use_reentrant=False), lambda s, z: z + block(s, z)),
    "a function of its own": (lambda s, z: Swish.apply(s.conv(z)), lambda s, z: s.conv(z) * s.conv(z).sigmoid()),
}


@pytest.mark.parametrize("hiding, plain", HIDING.values(), ids=HIDING)
def test_the_gradient_is_that_without_hiding(hiding, plain):
    net, batch_, gradients = Between(lambda s, z: z).train(), batch(), []
    for net.f in (hiding, plain):
        net.zero_grad()
        ISNet(net).loss(*batch_)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    assert unlike(*gradients) < 1e-5


class Coordinates(nn.Conv2d):
    def forward(self, x):
        line = torch.arange(8).view(1, 1, 1, 8).repeat(1, 1, 8, 1).float() / 7 * 2 - 1
        return super().forward(torch.cat([line.repeat(len(x), 1, 1, 1).type_as(x), x], 1))


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w / w.flatten(1).std(1).view(-1, 1, 1, 1), self.bias, padding=1)


class Normalised(nn.Conv2d):
    def forward(self, x):
        return super().forward(x - torch.full((1, 3, 1, 1), 0.45).to(x.device))


@pytest.mark.parametrize("first", [Coordinates, Standardised, Normalised])
def test_isnet_explains_its_images_and_no_other_tensor(first, monkeypatch):
    net, (x, y, mask), maps = Between(lambda s, z: z), batch(), []
    net.first = first(4 if first is Coordinates else 3, 4, 3, padding=1).double()
    loss = isnetlib.method.isnet.heatmap_loss
    monkeypatch.setattr("isnetlib.method.isnet.heatmap_loss", lambda R, *args: (maps.append(R), loss(R, *args))[1])
    ISNet(net).loss(x, y, mask)
    assert unlike(maps[0].detach(), explain(net, x, "selective")) < 1e-5
