"""Each operation's rule, against input times gradient, its twin, or the plain network."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import Between, assert_slope, images, relevance
from torch import nn
from twins import unlike

import isnetlib
from isnetlib.method.kernels import divide, stabilise, transposed_to_pixels

pytestmark = pytest.mark.usefixtures("seed")


def in_place_sum(self, z):
    out = self.conv(z)
    out += z
    out *= 2
    out -= 0.1
    out /= 3
    return out.relu_()


def keywords(self, z):
    z = torch.add(input=torch.relu(input=z), other=z)
    return torch.flatten(input=F.conv2d(input=z, weight=self.conv.weight, stride=2), start_dim=1)


def normed(self, z):
    """A ReLU after a BatchNorm whose factor a convolution may take into its weights, where it alone reads the ReLU."""
    return self.norm(z.relu()).relu()


def another_reader(self, z):
    y = normed(self, z)
    self.conv(y)  # leads nowhere
    return y.sum(1, keepdim=True) + self.norm(self.conv(y))


def reader_that_leads_nowhere(self, z):
    y = normed(self, z)
    self.conv(y)
    return F.avg_pool2d(y, 2)


OPERATIONS = {
    "hardtanh": lambda self, z: F.hardtanh(3 * z, -1, 2, inplace=True),
    "strided, dilated, grouped": lambda self, z: F.conv2d(z, self.conv.weight[:, :2], None, 2, 2, 2, 2).relu(),
    "padding='same'": lambda self, z: F.conv2d(z, self.conv.weight, padding="same").relu(),
    "padding='valid'": lambda self, z: F.conv2d(z, self.conv.weight, padding="valid").relu(),
    "reflecting padding": lambda self, z: F.conv2d(F.pad(z, (1, 1, 1, 1), mode="reflect"), self.conv.weight).relu(),
    "conv1d": lambda self, z: F.conv1d(z.flatten(2), self.conv.weight[:, :, 0], padding=1).relu(),
    "conv3d": lambda self, z: F.conv3d(z[:, :, None], self.conv.weight[:, :, None], padding=(0, 1, 1)).relu(),
    "linear over the last dimension": lambda self, z: F.linear(z, self.conv.weight.view(18, 8)).relu(),
    "batch norm": lambda self, z: self.norm(z.relu()).relu(),
    "batch norm, relu, conv": lambda self, z: self.norm(self.conv(normed(self, z))).relu(),
    "batch norm, relu, grouped": lambda self, z: F.conv2d(normed(self, z), self.conv.weight[:, :2], groups=2).relu(),
    "batch norm, relu, conv1d": lambda self, z: F.conv1d(normed(self, z).flatten(2), self.conv.weight[:, :, 0]).relu(),
    "batch norm, relu, another reader": another_reader,
    "batch norm, relu, a reader that leads nowhere": reader_that_leads_nowhere,
    "batch norm twice": lambda self, z: self.norm(self.norm(self.conv(z))).relu(),
    "batch norm after linear": lambda self, z: norm_1d(F.linear(z.mean((2, 3)), self.conv.weight[:, :, 0, 0])).relu(),
    "batch norm over rows": lambda self, z: norm_1d(F.linear(z.mean(3), self.conv.weight.view(18, 8)[:4])).relu(),
    "max pool, overlapping": lambda self, z: F.max_pool2d(z, 3, 2, 1),
    "max pool, dilated, ceil": lambda self, z: F.max_pool2d(z, 2, 2, 0, 2, ceil_mode=True),
    "max pool 1d, 3d": lambda self, z: F.max_pool3d(F.max_pool1d(z.flatten(2), 2)[..., None, None], (3, 1, 1)),
    "adaptive max pool": lambda self, z: F.adaptive_max_pool2d(z, (3, 5)),
    "average pool": lambda self, z: F.avg_pool2d(z, 3, 2, 1, count_include_pad=False),
    "adaptive average pool": lambda self, z: nn.AdaptiveAvgPool2d((3, 5))(z),
    "adaptive average pool, upwards": lambda self, z: F.adaptive_avg_pool2d(z, 11),
    "residual in place": in_place_sum,
    "concatenation": lambda self, z: torch.cat([z, self.conv(z), z.new_ones(z.shape)], 1).relu(),
    "chunks": lambda self, z: torch.cat(z.relu().chunk(2, 1)[::-1], 1),
    "shuffle": lambda self, z: z.view(-1, 2, 2, 8, 8).transpose(1, 2).contiguous().view(-1, 4, 8, 8).relu(),
    "stack, unbind": lambda self, z: torch.stack([z, z, *z[None].relu().unbind(0)]).sum(0),
    "slices": lambda self, z: z[:, [0, 2], ::2].relu() + z[:, 1:3, 1::2],
    "interpolation": lambda self, z: F.interpolate(z, size=5, mode="bilinear").relu(),
    "pixel shuffle": lambda self, z: F.pixel_shuffle(z, 2).relu(),
    "broadcast": lambda self, z: z.relu() + z.mean((2, 3), keepdim=True),
    "scale": lambda self, z: (1 - self.scale.exp() * z / 3).relu(),
    "same dtype": lambda self, z: z.to(z.dtype).type_as(z).relu(),
    "reused": lambda self, z: self.relu(self.conv(self.relu(self.conv(z)))),
    "keywords": keywords,
    "builtin sum": lambda self, z: sum([z, z.relu()]),
    "dropout in eval mode": lambda self, z: F.dropout(z, 0.5, training=False).relu(),
}


def norm_1d(z):
    return F.batch_norm(z, z.new_zeros(4), z.new_tensor([1.0, 2.0, 3.0, 4.0]), z.new_ones(4), z.new_ones(4))


@pytest.mark.parametrize("f", OPERATIONS.values(), ids=OPERATIONS)
def test_operation_is_input_times_gradient_and_can_be_trained_through(f):
    """d (R . v) / d weights along a random direction, against finite differences; three maps, eps and z^B."""
    net, x, v = Between(f), images(3, 8, 8), torch.randn(2, 3, 3, 8, 8).double()
    maps, start = isnetlib.explain(net, x, "all", eps=0, box=None), torch.randn(2, 3, 3).double()
    assert unlike(maps, torch.cat([twins.explain(net, x, c) for c in range(3)], 1)) < 1e-12

    def value():
        with isnetlib.LRP(0.1) as lrp:
            logits = net(x)
        assert torch.equal(logits, net(x))
        return (lrp.relevance(start, logits) * v).sum()

    assert_slope(value, net.parameters())


def test_a_factor_behind_the_last_layer_is_trained_too():
    net, x, t = Between(lambda self, z: z.relu()), images(3, 8, 8), torch.tensor(2.0, requires_grad=True)
    with isnetlib.LRP() as lrp:
        logits = net(x) * t
    R = lrp.relevance(torch.ones(2, 1, 3).double(), logits).sum()
    assert torch.autograd.grad(R, t)[0].item() == pytest.approx(R.item() / 2)


def test_zero_counts_as_positive_and_nothing_over_nothing_is_nothing():
    z = torch.tensor([-1.0, -0.0, 0.0, 2.0]).double()
    assert stabilise(z, 0.1).tolist() == [-1.1, 0.1, 0.1, 2.1]
    assert divide(z, z).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("drop", [nn.Dropout(0.4), nn.Dropout(0.4, inplace=True), nn.Dropout2d(0.4), nn.Dropout(1.0)])
def test_dropout_passes_relevance_where_it_passed_activation(drop):
    net, x = Between(lambda self, z: F.relu(self.conv(drop(F.relu(z))))), images(3, 8, 8)
    torch.manual_seed(1)
    R = relevance(net, x, 1, box=None)
    torch.manual_seed(1)
    assert torch.allclose(R, twins.explain(net, x, 1, 1e-2), 1e-9, 1e-12)


REFUSED = {
    "a product": (lambda self, z: z * z.relu(), "mul: both factors depend on the image"),
    "both gates": (lambda self, z: z.sigmoid() * z.relu().sigmoid(), "mul: both factors depend on the image"),
    "a gate and more": (lambda self, z: z * (z.sigmoid() + z), "mul: both factors depend on the image"),
    "a product of matrices": (lambda self, z: z @ z.mT, "matmul: both factors depend on the image"),
    "three factors": (lambda self, z: torch.einsum("bi,bi,bi->bi", [z.flatten(1)] * 3), "einsum 'bi,bi,bi->bi' of"),
    "dots": (lambda self, z: torch.einsum("...ij,...jd->...id", z.softmax(-1), z), "write it with matmul"),
    "grouped queries": (lambda self, z: F.scaled_dot_product_attention(z, z, z, enable_gqa=True), "enable_gqa"),
    "softmax": (lambda self, z: z.softmax(1), "softmax: a softmax may weigh values"),
    "a quotient": (lambda self, z: z / (1 + z.mean()), "div: the divisor depends on the image"),
    "a quotient, rounded": (lambda self, z: torch.div(z, 2, rounding_mode="floor"), "or the quotient is rounded"),
    "one over": (lambda self, z: 1 / (z + 9), "rdiv: this operation has no relevance rule"),
    "cosine": (lambda self, z: z.cos(), "cos: this operation has no relevance rule"),
    "cosine in place": (lambda self, z: z.cos_(), "cos: this operation has no relevance rule"),
    "sigmoid": (lambda self, z: z.sigmoid(), "sigmoid: f\\(0\\) is not 0, so it may be a factor"),
    "local response": (lambda self, z: F.local_response_norm(z, 2), "local_response_norm: this operation has no"),
    "hardtanh off zero": (lambda self, z: F.hardtanh(z, 1, 2), "f\\(0\\) is not 0"),
    "even 'same'": (lambda self, z: F.conv2d(z, self.conv.weight[..., :2], padding="same"), "pad explicitly"),
    "in place through a view": (lambda self, z: (z[:, :2].relu_(), z)[1], "shares memory"),
    "view of what is overwritten": (lambda self, z: (z[:, :2], z.relu_())[0], "shares memory"),
    "other view": (lambda self, z: (z.flatten(1), z.view(-1, 2, 2, 8, 8).relu_())[0], "shares memory"),
    "written into": (lambda self, z: (z.__setitem__(0, 0), z)[1], "setitem: this operation has no relevance rule"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("f, reason", REFUSED.values(), ids=REFUSED)
def test_what_is_not_covered_is_refused(f, reason, gates):
    net, x = Between(f), images(3, 8, 8)
    with pytest.raises(isnetlib.NotCovered, match=f"the model itself \\(Between\\): .*{reason}"):
        with isnetlib.LRP(gates=gates) as lrp:
            logits = net(x)
        assert torch.equal(logits, net(x))
        lrp.relevance(torch.ones(2, 1, 3).double(), logits)


@pytest.mark.parametrize("size", [(16, 16), (15, 18), (9, 21)])
@pytest.mark.parametrize("stride, kernel, padding", [(2, 7, (3, 3)), (2, 3, (0, 1)), (4, 4, (0, 0)), (4, 11, (2, 2))])
def test_blocks_of_pixels_give_the_transposed_convolution(stride, kernel, padding, size):
    x, w = torch.randn(2, 3, *size).double().requires_grad_(), torch.randn(5, 3, kernel, kernel).double()
    y = F.conv2d(x, w, None, stride, padding)
    g, conf = torch.randn_like(y), ([stride] * 2, list(padding), [1, 1], False, [0, 0], 1, None)
    (expected,) = torch.autograd.grad(y, x, g)
    assert torch.allclose(transposed_to_pixels(g, w, x.shape, conf), expected, atol=1e-12)
