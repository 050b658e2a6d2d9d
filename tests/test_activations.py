"""Rules of activations and gates, in all their forms, against their equations."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import Between, agree, images, same
from torch import nn
from twins import ModifiedGradient, unlike

import isnetlib
from isnetlib.method.operations import Activated

pytestmark = pytest.mark.usefixtures("seed")


def slope_of(z):
    return torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=z.dtype)


ACTIVATIONS = {  # the function, then its other forms
    "relu": (F.relu, nn.ReLU(), nn.ReLU(inplace=True), torch.relu, torch.Tensor.relu_, F.relu_),
    "relu whose answer is not used": (F.relu, lambda z: (F.relu(z, inplace=True), z)[1]),
    "relu of a view": (F.relu, lambda z: z.view(-1, 2, 2, 8, 8).relu_().view(-1, 4, 8, 8)),
    "relu6": (F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), lambda z: F.hardtanh(z, 0, 6)),
    "leaky_relu": (F.leaky_relu, nn.LeakyReLU(), nn.LeakyReLU(inplace=True), F.leaky_relu_),
    "hardtanh": (F.hardtanh, nn.Hardtanh(), nn.Hardtanh(inplace=True), F.hardtanh_),
    "silu": (F.silu, nn.SiLU(), nn.SiLU(inplace=True), lambda z: F.silu(z, True)),
    "gelu": (F.gelu, nn.GELU()),
    "gelu, tanh": (lambda z: F.gelu(z, approximate="tanh"), nn.GELU("tanh")),
    "hardswish": (F.hardswish, nn.Hardswish(), nn.Hardswish(inplace=True)),
    "mish": (F.mish, nn.Mish(), nn.Mish(inplace=True)),
    "tanh": (torch.tanh, nn.Tanh(), torch.Tensor.tanh, torch.Tensor.tanh_, torch.tanh_),
    "elu": (lambda z: F.elu(z, 0.7), nn.ELU(0.7), nn.ELU(0.7, inplace=True), lambda z: F.elu_(z, 0.7)),
    "selu": (F.selu, nn.SELU(), nn.SELU(inplace=True), torch.selu_),
    "celu": (lambda z: F.celu(z, 0.7), nn.CELU(0.7), lambda z: torch.celu_(z, 0.7)),
    "softsign": (F.softsign, nn.Softsign()),
    "softshrink": (F.softshrink, nn.Softshrink()),
    "hardshrink": (F.hardshrink, nn.Hardshrink(), torch.Tensor.hardshrink),
    "tanhshrink": (F.tanhshrink, nn.Tanhshrink()),
    "prelu": (lambda z: F.prelu(z, slope_of(z)), lambda z: torch.prelu(z, slope_of(z))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_divides_by_what_went_in(name):
    """G f(z) / (z + eps s(z)), in every form; and at eps 0, where the network is the one with f(z) / z detached."""
    for eps in (0.1, 0.0):
        f, *forms = ACTIVATIONS[name]
        net, x = Between(lambda self, z: ModifiedGradient.apply(3 * self.conv(z), f, eps)), images(3, 8, 8)  # noqa: B023
        R = twins.explain(net, x, 1, eps)
        for form in (f, *forms):
            net.f = lambda self, z, form=form: form(3 * self.conv(z))
            assert unlike(isnetlib.explain(net, x, 1, eps, box=None), R) < 1e-12
            with isnetlib.LRP(eps):
                assert torch.allclose(net(x), net(x), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if not name.startswith("relu ")])
@pytest.mark.parametrize("eps", [0.1, 0.0])
def test_the_ratio_has_the_right_derivative(name, eps):
    f = ACTIVATIONS[name][0]
    z, g, u = (2 * torch.randn(k, 2, 4, dtype=torch.float64).squeeze(0) for k in (1, 3, 3))

    def by_definition(z):
        return (g * f(z) / (z + eps * twins.sign(z)) * u).sum()

    z.requires_grad_()
    (expected,) = torch.autograd.grad(by_definition(z), z)
    (slope,) = torch.autograd.grad((Activated.apply(g, z, f(z).detach(), f, eps) * u).sum(), z)
    assert torch.allclose(slope, expected, 1e-9, 1e-12)


def test_at_zero_nothing_passes():
    """0/0 is 0, and so is its derivative; with eps the derivative is f'(0) / eps."""
    z, g = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.ones(1, 1, dtype=torch.float64)
    for f, eps, slope in ((F.gelu, 0.0, 0.0), (F.silu, 0.0, 0.0), (F.gelu, 0.1, 5.0), (F.silu, 0.1, 5.0)):
        out = Activated.apply(g, z, f(z).detach(), f, eps)
        assert out.item() == 0 and torch.autograd.grad(out.sum(), z)[0].item() == pytest.approx(slope)


@pytest.mark.parametrize("f", [F.silu, F.gelu, F.hardswish, F.relu])
def test_after_the_first_layer_eps_is_that_of_the_z_box_alone(f):
    """R1 = y G at the first layer's output; z^B shares it out."""
    net, (x,) = Between(lambda self, z: f(z), 6), images(3, 6, 6, batch=1)
    with torch.no_grad():
        R1 = f(net.first(x[None])).flatten() * net.last.weight[1]
        W, b = twins.affine(net.first, x.shape)
        R = twins.z_box_rule(x.flatten(), torch.zeros(108).double(), torch.ones(108).double(), W, b, R1, 0.1)
    assert unlike(isnetlib.explain(net, x[None], 1, 0.1).flatten(), R) < 1e-12


MOVED = {  # and what it is with ReLU first
    "view": (lambda z: F.relu(z.view(-1, 2, 2, 6, 6)).view(-1, 4, 6, 6), F.relu),
    "chunks": (lambda z: torch.cat([F.relu(part) for part in z.chunk(2, 1)], 1), F.relu),
    "max pool": (lambda z: F.relu(F.max_pool2d(z, 2)), lambda z: F.max_pool2d(F.relu(z), 2)),
}


@pytest.mark.parametrize("f, first", MOVED.values(), ids=MOVED)
def test_what_only_moves_the_first_layers_outputs_adds_no_eps(f, first):
    net, x = Between(lambda self, z: f(z), 6), images(3, 6, 6)
    R = isnetlib.explain(net, x, 1, 0.1)
    net.f = lambda self, z: first(z)
    assert unlike(R, isnetlib.explain(net, x, 1, 0.1)) < 1e-12


def squeeze(self, z):
    return self.conv(z.relu()).mean((2, 3), keepdim=True)


GATED = {  # held: what is done to the gate
    "squeeze-excitation": lambda self, z, held=same: self.conv(z).relu() * held(squeeze(self, z).sigmoid()),
    "hard sigmoid first": lambda self, z, held=same: held(F.hardsigmoid(squeeze(self, z))) * z.relu(),
    "in place": lambda self, z, held=same: self.conv(z).mul_(held(squeeze(self, z).sigmoid_())),
    "operator in place": lambda self, z, held=same: self.conv(z).__imul__(held(squeeze(self, z).sigmoid())),
    "reshaped": lambda self, z, held=same: z.relu() * held(F.sigmoid(squeeze(self, z))).flatten(1)[..., None, None],
    "expanded": lambda self, z, held=same: z.relu() * held(squeeze(self, z).sigmoid()).expand_as(z),
    "swish by hand": lambda self, z, held=same: z * held(z.sigmoid()),
    "halves": lambda self, z, held=same: z[:, :2] * held(z[:, 2:].sigmoid()),
    "softplus": lambda self, z, held=same: z.relu() * held(F.softplus(z)),
    "softmax over positions": lambda self, z, held=same: z.relu() * held(z.flatten(2).softmax(2)).view(z.shape),
    "dropout in eval mode": lambda self, z, held=same: z.relu() * F.dropout(held(z.sigmoid()), 0.5, False),
}
SCALED = {
    "one minus": lambda self, z, held=same: z.relu() * (1 - held(z.sigmoid())),
    "linear layers on gates alone": lambda self, z, held=same: z.relu() * self.conv(held(z.sigmoid())).tanh(),
    "a sum of gates": lambda self, z, held=same: z.relu() * (held(z.sigmoid()) + held(z.softmax(1))),
}


@pytest.mark.parametrize("f", (GATED | SCALED).values(), ids=GATED | SCALED)
def test_a_gate_is_a_constant_factor(f):
    agree(f, lambda self, z: f(self, z, torch.Tensor.detach))


@pytest.mark.parametrize("name", [name for name in GATED if "softmax" not in name])
def test_shared_gates_conserve_relevance(name):
    net, x = Between(GATED[name]), images(3, 8, 8)
    for key, value in net.named_parameters():
        if key.endswith("bias"):
            nn.init.zeros_(value)
    R = isnetlib.explain(net, x, 1, eps=0, box=None, gates="shared")
    assert torch.allclose(R.sum((1, 2, 3, 4)), net(x)[:, 1], rtol=1e-9)


def test_a_shared_gate_has_half_of_what_exceeds_its_rest():
    """y = x g(z): G_x = G (g0 + (g - g0) / 2), G_z = G x (g - g0) / (z + eps s(z)) / 2, summed where g is broadcast."""
    net, x = Between(lambda self, z: z[:, :2] * z[:, 2:].mean((2, 3), keepdim=True).sigmoid()), images(3, 8, 8)
    with torch.no_grad():
        G = net.last.weight[1].view(2, 8, 8)
        z = net.first(x)
        a, m = z[:, :2], z[:, 2:].mean((2, 3), keepdim=True)
        g = m.sigmoid()
        G_m = (G * a).sum((2, 3), keepdim=True) * (g - 0.5) / (m + 0.1 * twins.sign(m)) / 2
        G_z = torch.cat([G * (0.5 + (g - 0.5) / 2), G_m.expand(-1, -1, 8, 8) / 64], 1)
        R = x * F.conv_transpose2d(G_z, net.first.weight, padding=1)
    assert unlike(isnetlib.explain(net, x, 1, 0.1, None, gates="shared")[:, 0], R) < 1e-12


@pytest.mark.parametrize("name", ["one minus", "a sum of gates"])
def test_shared_gates_must_be_the_gates_themselves(name):
    with pytest.raises(isnetlib.NotCovered, match="nothing but rearrangements"):
        isnetlib.explain(Between(SCALED[name]), images(3, 8, 8), gates="shared")
    with pytest.raises(ValueError, match='gates must be "constant" or "shared"'):
        isnetlib.LRP(gates="open")
