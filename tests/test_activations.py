"""Rules of activations and gates, in all their forms, against their equations."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import Between, images
from torch import nn
from twins import ModifiedGradient, unlike

import isnetlib
from isnetlib.activations import Activated


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def slope_of(z):
    return torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=z.dtype)


ACTIVATIONS = {  # the function, then its other forms
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
                logits = net(x)
            assert torch.allclose(logits, net(x), rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
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


MOVED = {
    "view": lambda self, z: F.relu(z.view(-1, 2, 2, 6, 6)).view(-1, 4, 6, 6),
    "chunks": lambda self, z: torch.cat([F.relu(part) for part in z.chunk(2, 1)], 1),
    "max pool": lambda self, z: F.relu(F.max_pool2d(z, 2)),
}


@pytest.mark.parametrize("f", MOVED.values(), ids=MOVED)
def test_what_only_moves_the_first_layers_outputs_adds_no_eps(f):
    """The same map as with ReLU first."""
    swapped = {"max pool": lambda self, z: F.max_pool2d(F.relu(z), 2)}
    name = next(key for key, value in MOVED.items() if value is f)
    net, x = Between(f, 6), images(3, 6, 6)
    R = isnetlib.explain(net, x, 1, 0.1)
    net.f = swapped.get(name, lambda self, z: F.relu(z))
    assert unlike(R, isnetlib.explain(net, x, 1, 0.1)) < 1e-12


# -------------------------------------------------------------------------------------------------------- gates
def squeeze(self, z):
    return self.conv(z.relu()).mean((2, 3), keepdim=True)


GATED = {  # with its gate, and with the gate detached
    "squeeze-excitation": lambda held: lambda self, z: self.conv(z).relu() * held(squeeze(self, z).sigmoid()),
    "hard sigmoid first": lambda held: lambda self, z: held(F.hardsigmoid(squeeze(self, z))) * z.relu(),
    "in place": lambda held: lambda self, z: self.conv(z).mul_(held(squeeze(self, z).sigmoid_())),
    "operator in place": lambda held: lambda self, z: times_in_place(self.conv(z), held(squeeze(self, z).sigmoid())),
    "reshaped": lambda held: lambda self, z: z.relu() * held(F.sigmoid(squeeze(self, z))).flatten(1)[..., None, None],
    "expanded": lambda held: lambda self, z: z.relu() * held(squeeze(self, z).sigmoid()).expand_as(z),
    "swish by hand": lambda held: lambda self, z: z * held(z.sigmoid()),
    "glu": lambda held: lambda self, z: z[:, :2] * held(z[:, 2:].sigmoid()),
    "softplus": lambda held: lambda self, z: z.relu() * held(F.softplus(z)),
    "softmax over positions": lambda held: lambda self, z: z.relu() * held(z.flatten(2).softmax(2)).view(z.shape),
    "dropout in eval mode": lambda held: lambda self, z: z.relu() * F.dropout(held(z.sigmoid()), 0.5, False),
}
SCALED = {
    "one minus": lambda held: lambda self, z: z.relu() * (1 - held(z.sigmoid())),
    "linear layers on gates alone": lambda held: lambda self, z: z.relu() * self.conv(held(z.sigmoid())).tanh(),
    "a sum of gates": lambda held: (
        lambda self, z: z.relu() * (held(z.sigmoid()) + held(z.flatten(2).softmax(2)).view(z.shape))
    ),
}


def times_in_place(x, gate):
    x *= gate
    return x


@pytest.mark.parametrize("f", (GATED | SCALED).values(), ids=GATED | SCALED)
def test_a_gate_is_a_constant_factor(f):
    net, x = Between(f(lambda t: t)), images(3, 8, 8)
    R = isnetlib.explain(net, x, "all", eps=0, box=None)
    with isnetlib.LRP():
        assert torch.equal(net(x), (net(x)))
    net.f = f(torch.Tensor.detach)
    assert unlike(R, torch.cat([twins.explain(net, x, c) for c in range(3)], 1)) < 1e-12


def test_glu_is_its_two_halves():
    net, x = Between(lambda self, z: F.glu(z, 1)), images(3, 8, 8)
    R = isnetlib.explain(net, x, 1)
    net.f = GATED["glu"](lambda t: t)
    assert unlike(R, isnetlib.explain(net, x, 1)) < 1e-12


def bias_free(net):
    for name, value in net.named_parameters():
        if name.endswith("bias"):
            value.data.zero_()
    return net


@pytest.mark.parametrize("name", [name for name in GATED if "softmax" not in name])
def test_shared_gates_conserve_relevance(name):
    net, x = bias_free(Between(GATED[name](lambda t: t))), images(3, 8, 8)
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


def test_a_background_that_acts_through_a_gate_shows_only_where_gates_are_shared():
    """The gate sees the left half, the value the right one."""

    class Split(nn.Module):
        def forward(self, x):
            value, side = x[:, :1, :, 4:], x[:, :1, :, :4]
            return (value * side.mean((2, 3), keepdim=True).sigmoid()).flatten(1) @ torch.ones(32, 2)

    x = torch.rand(2, 1, 8, 8)
    assert not isnetlib.explain(Split(), x, 0, box=None)[..., :4].any()
    assert (isnetlib.explain(Split(), x, 0, box=None, gates="shared")[..., :4] > 0).all()


def test_the_heatmap_loss_trains_the_gates_or_not():
    net, x = Between(lambda self, z: z * self.conv(z).detach().add(self.scale).sigmoid()), images(3, 8, 8)
    net.f = lambda self, z: z * (self.conv(z) * self.scale).sigmoid()
    for attached in (True, False):
        with isnetlib.LRP(box=None, gate_gradient=attached) as lrp:
            logits = net(x)
        R = lrp.relevance(isnetlib.start_for(logits, 1), logits)
        slope = torch.autograd.grad(R.square().sum(), net.scale, allow_unused=True)[0]
        assert (slope is not None and slope.any()) == attached


WRONG = {
    "a gate as a value": (lambda self, z: z.sigmoid(), "sigmoid: f\\(0\\) is not 0"),
    "a softmax as a value": (lambda self, z: z.softmax(1), "softmax: a softmax may weigh"),
    "both gates": (lambda self, z: z.sigmoid() * z.relu().sigmoid(), "mul: both factors depend on the image"),
    "neither a gate": (lambda self, z: z * z.relu(), "mul: both factors depend on the image"),
    "a gate and more": (lambda self, z: z * (z.sigmoid() + z), "mul: both factors depend on the image"),
}


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("f, reason", WRONG.values(), ids=WRONG)
def test_what_is_no_gate_is_refused(f, reason, gates):
    net, x = Between(f), images(3, 8, 8)
    with pytest.raises(isnetlib.NotCovered, match=f"the model itself \\(Between\\): {reason}"):
        isnetlib.explain(net, x, gates=gates)


@pytest.mark.parametrize("name", ["one minus", "a sum of gates"])
def test_shared_gates_must_be_the_gates_themselves(name):
    with pytest.raises(isnetlib.NotCovered, match="nothing but rearrangements"):
        isnetlib.explain(Between(SCALED[name](lambda t: t)), images(3, 8, 8), gates="shared")


def test_wrong_switches():
    with pytest.raises(ValueError, match='gates must be "constant" or "shared"'):
        isnetlib.LRP(gates="open")
