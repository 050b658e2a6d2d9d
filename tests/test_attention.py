"""Rules of normalisations, matrix products and attention, against plain autograd with the constant parts detached."""

import pytest
import torch
import torch.nn.functional as F
import twins
from architectures import held_constant
from small_nets import Between, agree, images, same
from torch import nn
from twins import unlike

import isnetlib

pytestmark = pytest.mark.usefixtures("seed")


def standardised(z, dims, eps=1e-5):
    sigma = (z.var(dims, correction=0, keepdim=True) + eps).sqrt()
    return (z - z.mean(dims, keepdim=True)) / sigma.detach()


ROW, CHANNEL = torch.rand(8).double() + 0.5, torch.rand(4).double() + 0.5
EACH = CHANNEL.view(4, 1, 1)
NORMALISATIONS = {  # of z, and with the deviation held constant
    "layer norm": (lambda z: F.layer_norm(z, (8,), ROW, ROW), lambda z: standardised(z, (-1,)) * ROW + ROW),
    "layer norm of two dimensions": (lambda z: torch.layer_norm(z, (8, 8)), lambda z: standardised(z, (-2, -1))),
    "group norm": (
        lambda z: F.group_norm(z, 2, CHANNEL, CHANNEL),
        lambda z: standardised(z.unflatten(1, (2, 2)), (2, 3, 4)).flatten(1, 2) * EACH + EACH,
    ),
    "normalize": (lambda z: F.normalize(z, dim=1), lambda z: z / z.norm(dim=1, keepdim=True).detach()),
}


@pytest.mark.parametrize("f, twin", NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_a_normalisation_holds_the_deviation_constant(f, twin):
    agree(lambda self, z: f(z), lambda self, z: twin(z))


def tokens(z):
    return z.flatten(2).mT  # (B, 64, 4)


def weights(z):
    return (tokens(z) @ tokens(z).mT).softmax(-1)


def heads(z):
    return z.view(-1, 2, 2, 64).mT  # (B, 2 heads, 64, 2)


CONSTANT = torch.randn(4, 6).double()
PRODUCTS = {  # of z; held: what is held constant
    "with a constant": lambda held, z: (tokens(z) @ CONSTANT).relu(),
    "constant on the left": lambda held, z: CONSTANT.mT @ z.flatten(2),
    "mm": lambda held, z: torch.mm(z.flatten(1), z.new_ones(256, 5)),
    "matmul": lambda held, z: torch.matmul(held(weights(z)), tokens(z)),
    "operator": lambda held, z: held(weights(z)) @ tokens(z).relu(),
    "bmm": lambda held, z: torch.bmm(held(weights(z)), tokens(z)),
    "values on the left": lambda held, z: z.flatten(2) @ held(weights(z)).transpose(1, 2),
    "weights for all heads": lambda held, z: held(weights(z))[:, None] @ heads(z),
    "einsum": lambda held, z: torch.einsum("bij, bjd -> bid", held(weights(z)), tokens(z)),
    "einsum, list": lambda held, z: torch.einsum("bjd,bij->bdi", [tokens(z), held(weights(z))]),
    "einsum with a constant": lambda held, z: torch.einsum("bchw,cd->bdhw", z, CONSTANT).relu(),
    "dropped weights": lambda held, z: F.dropout(held(weights(z)), 0.5, False) @ tokens(z),
    "normalised queries": lambda held, z: (
        held((F.normalize(tokens(z), dim=-1) @ tokens(z).mT).log_softmax(-1).exp()) @ tokens(z)
    ),
    "masked": lambda held, z: held((tokens(z) @ z.flatten(2)).masked_fill(MASK, -torch.inf).softmax(-1)) @ tokens(z),
    "query that is no activation": lambda held, z: held((CONSTANT.mT @ z.flatten(2)).softmax(-1)) @ tokens(z),
}
MASK = torch.ones(64, 64, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("f", PRODUCTS.values(), ids=PRODUCTS)
def test_the_softmax_side_of_a_product_is_constant(f):
    agree(lambda self, z: f(same, z), lambda self, z: f(torch.Tensor.detach, z))


def by_hand(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).detach() @ v


FLOATS = torch.randn(64, 64).double()
OPTIONS = {
    "plain": ({}, {}),
    "scaled": ({"scale": 0.3}, {"scale": 0.3}),
    "causal": ({"is_causal": True}, {"mask": ~MASK}),
    "masked": ({"attn_mask": ~MASK}, {"mask": ~MASK}),
    "with float mask": ({"attn_mask": FLOATS}, {"mask": FLOATS}),
}


@pytest.mark.parametrize("options, same", OPTIONS.values(), ids=OPTIONS)
def test_fused_attention(options, same):
    agree(
        lambda self, z: F.scaled_dot_product_attention(heads(z), 2 * heads(z), heads(z.relu()), **options),
        lambda self, z: by_hand(heads(z), 2 * heads(z), heads(z.relu()), **same),
    )


def attention(**options):
    layer = nn.MultiheadAttention(4, 2, **options).double()
    for p in layer.parameters():
        nn.init.normal_(p)
    return layer.eval()


LAYERS = {  # options of the layer, of the call
    "no weights": ({}, {"need_weights": False}),
    "weights": ({}, {"need_weights": True}),
    "weights of each head": ({}, {"average_attn_weights": False}),
    "no biases": ({"bias": False}, {}),
    "keys and values of their own widths": ({"kdim": 2, "vdim": 3}, {}),
    "over the first dimension": ({"batch_first": False}, {}),
}


@pytest.mark.parametrize("options, call", LAYERS.values(), ids=LAYERS)
def test_multi_head_attention(options, call):
    layer = attention(**{"batch_first": True} | options)

    def f(self, z):
        x = tokens(z)
        return layer(x, x[..., : layer.kdim], x[..., -layer.vdim :], **call)[0]

    def twin(self, z):
        with held_constant():
            return f(self, z)

    agree(f, twin)


def test_dropped_attention_weights_are_those_of_the_forward_pass():
    layer, x = attention(dropout=0.5, batch_first=True).train(), images(3, 8, 8)
    net = Between(lambda self, z: layer(*[tokens(z)] * 3, need_weights=False)[0])
    torch.manual_seed(1)
    R = isnetlib.explain(net, x, 1, 0.0, None)

    def dropped(q, k, v, mask=None, dropout_p=0.0, is_causal=False):
        return F.dropout((q @ k.mT / 2**0.5).softmax(-1).detach(), dropout_p) @ v

    torch.manual_seed(1)
    with twins.mock.patch.object(F, "scaled_dot_product_attention", dropped):
        assert unlike(R, twins.explain(net, x, 1)) < 1e-10


@pytest.mark.parametrize("options, mask", [({"add_bias_kv": True}, None), ({"add_zero_attn": True}, None), ({}, MASK)])
def test_what_multi_head_attention_does_not_cover(options, mask):
    layer = attention(batch_first=True, **options)
    net = Between(lambda self, z: layer(*[tokens(z)] * 3, attn_mask=mask)[0])
    with pytest.raises(isnetlib.NotCovered, match="MultiheadAttention\\): multi_head_attention_forward: .*bias_k"):
        isnetlib.explain(net, images(3, 8, 8))


def test_shared_attention_goes_through_the_softmax():
    """Half to the values, half by the gradient of the softmax to the scores, half of which to queries and to keys."""

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            return g @ b.mT / 2, a.mT @ g / 2

    def net(product):
        return lambda self, z: product(product(tokens(z), tokens(z).relu().mT).softmax(-1), tokens(z))

    agree(net(torch.matmul), net(Halved.apply), gates="shared")
