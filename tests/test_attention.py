"""Rules of normalisations, matrix products and attention, against plain autograd with the constant parts detached."""

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import Between, images
from torch import nn
from twins import unlike

import isnetlib
from isnetlib.architectures import held_constant


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def agree(f, twin, **switches):
    """f explained at eps 0 without z^B is input x gradient of the network with `twin` in its place."""
    net, x = Between(f), images(3, 8, 8)
    R = isnetlib.explain(net, x, "all", eps=0, box=None, **switches)
    plain = net(x)
    net.f = twin
    assert torch.allclose(net(x), plain, rtol=1e-10)
    assert unlike(R, torch.cat([twins.explain(net, x, c) for c in range(3)], 1)) < 1e-10


def standardised(z, dims, eps=1e-5, centred=True):
    if not centred:
        return z / (z.square().mean(dims, keepdim=True) + eps).sqrt().detach()
    sigma = (z.var(dims, correction=0, keepdim=True) + eps).sqrt()
    return (z - z.mean(dims, keepdim=True)) / sigma.detach()


ROW, CHANNEL = torch.rand(8).double() + 0.5, torch.rand(4).double() + 0.5
NORMALISATIONS = {
    "layer norm": (
        lambda self, z: F.layer_norm(z, (8,), ROW, ROW),
        lambda self, z: standardised(z, (-1,)) * ROW + ROW,
    ),
    "layer norm of two dimensions": (
        lambda self, z: torch.layer_norm(z, (8, 8)),
        lambda self, z: standardised(z, (-2, -1)),
    ),
    "rms norm": (
        lambda self, z: F.rms_norm(z, (8,), ROW, 1e-3),
        lambda self, z: standardised(z, (-1,), 1e-3, centred=False) * ROW,
    ),
    "rms norm module": (
        lambda self, z: nn.RMSNorm(8, elementwise_affine=False)(z),
        lambda self, z: standardised(z, (-1,), torch.finfo(z.dtype).eps, centred=False),
    ),
    "group norm": (
        lambda self, z: F.group_norm(z, 2, CHANNEL, CHANNEL),
        lambda self, z: (
            standardised(z.unflatten(1, (2, 2)), (2, 3, 4)).flatten(1, 2) * CHANNEL.view(4, 1, 1)
            + CHANNEL.view(4, 1, 1)
        ),
    ),
    "instance norm": (lambda self, z: nn.InstanceNorm2d(4)(z), lambda self, z: standardised(z, (2, 3))),
    "instance norm with weights": (
        lambda self, z: F.instance_norm(z, weight=CHANNEL, bias=CHANNEL),
        lambda self, z: standardised(z, (2, 3)) * CHANNEL.view(4, 1, 1) + CHANNEL.view(4, 1, 1),
    ),
    "instance norm with running statistics": (
        lambda self, z: F.instance_norm(z, CHANNEL, CHANNEL, use_input_stats=False),
        lambda self, z: (z - CHANNEL.view(4, 1, 1)) / (CHANNEL.view(4, 1, 1) + 1e-5).sqrt(),
    ),
    "normalize": (
        lambda self, z: F.normalize(z, dim=1),
        lambda self, z: z / z.norm(dim=1, keepdim=True).detach(),
    ),
}


@pytest.mark.parametrize("f, twin", NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_a_normalisation_holds_the_deviation_constant(f, twin):
    agree(f, twin)


# ------------------------------------------------------------------------------------------------- matrix products
def tokens(z):
    return z.flatten(2).mT  # (B, 64, 4)


def weights(z):
    return (tokens(z) @ tokens(z).mT).softmax(-1)


def heads(z):
    return z.view(-1, 2, 2, 64).mT  # (B, 2 heads, 64, 2)


CONSTANT = torch.randn(4, 6).double()
PRODUCTS = {  # by `held`: what is held constant
    "with a constant": lambda held: lambda self, z: (tokens(z) @ CONSTANT).relu(),
    "constant on the left": lambda held: lambda self, z: CONSTANT.mT @ z.flatten(2),
    "mm": lambda held: lambda self, z: torch.mm(z.flatten(1), z.new_ones(256, 5)),
    "matmul": lambda held: lambda self, z: torch.matmul(held(weights(z)), tokens(z)),
    "operator": lambda held: lambda self, z: held(weights(z)) @ tokens(z).relu(),
    "method": lambda held: lambda self, z: held(weights(z)).matmul(tokens(z)),
    "bmm": lambda held: lambda self, z: torch.bmm(held(weights(z)), tokens(z)),
    "values on the left": lambda held: lambda self, z: z.flatten(2) @ held(weights(z)).transpose(1, 2),
    "weights for all heads": lambda held: lambda self, z: held(weights(z))[:, None] @ heads(z),
    "baddbmm": lambda held: lambda self, z: torch.baddbmm(tokens(z), held(weights(z)), tokens(z), beta=2, alpha=0.5),
    "einsum": lambda held: lambda self, z: torch.einsum("bij, bjd -> bid", held(weights(z)), tokens(z)),
    "einsum, list": lambda held: lambda self, z: torch.einsum("bjd,bij->bdi", [tokens(z), held(weights(z))]),
    "einsum with a constant": lambda held: lambda self, z: torch.einsum("bchw,cd->bdhw", z, CONSTANT).relu(),
    "dropped weights": lambda held: lambda self, z: F.dropout(held(weights(z)), 0.5, False) @ tokens(z),
    "normalised queries": lambda held: (
        lambda self, z: held((F.normalize(tokens(z), dim=-1) @ tokens(z).mT).log_softmax(-1).exp()) @ tokens(z)
    ),
    "masked scores": lambda held: (
        lambda self, z: held((tokens(z) @ z.flatten(2)).masked_fill(MASK, -torch.inf).softmax(-1)) @ tokens(z)
    ),
    "query that is no activation": lambda held: (
        lambda self, z: held((CONSTANT.mT @ z.flatten(2)).softmax(-1)) @ tokens(z)
    ),
}
MASK = torch.ones(64, 64, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("f", PRODUCTS.values(), ids=PRODUCTS)
def test_the_softmax_side_of_a_product_is_constant(f):
    agree(f(lambda t: t), f(torch.Tensor.detach))


REFUSED = {
    "neither": (lambda self, z: tokens(z) @ z.flatten(2), "matmul: both factors depend on the image"),
    "three": (lambda self, z: torch.einsum("bi,bi,bi->bi", [z.flatten(1)] * 3), "einsum 'bi,bi,bi->bi' of several"),
    "dots": (lambda self, z: torch.einsum("...ij,...jd->...id", weights(z), tokens(z)), "write it with matmul"),
    "grouped queries": (lambda self, z: F.scaled_dot_product_attention(*[heads(z)] * 3, enable_gqa=True), "enable_gqa"),
    "weights": (lambda self, z: weights(z), "softmax: a softmax may weigh values"),
}


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("f, reason", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(f, reason, gates):
    with pytest.raises(isnetlib.NotCovered, match=reason):
        isnetlib.explain(Between(f), images(3, 8, 8), gates=gates)


# ------------------------------------------------------------------------------------------------------ attention
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


def projected(layer, x, mask=None):
    """(B, L, E) -> (B, L, E) for a layer of which queries, keys and values have one width."""
    parts = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in parts)
    y = by_hand(q, k, v, mask).transpose(1, 2).flatten(2)
    return F.linear(y, layer.out_proj.weight, layer.out_proj.bias)


PADDING = torch.rand(64) > 0.7
LAYERS = {  # options of the layer, of the call, mask
    "no weights": ({"batch_first": True}, {"need_weights": False}, None),
    "weights": ({"batch_first": True}, {"need_weights": True}, None),
    "weights of each head": ({"batch_first": True}, {"average_attn_weights": False}, None),
    "no biases": ({"batch_first": True, "bias": False}, {}, None),
    "masked": ({"batch_first": True}, {"attn_mask": MASK}, ~MASK),
    "causal": ({"batch_first": True}, {"attn_mask": MASK, "is_causal": True, "need_weights": False}, ~MASK),
    "with float mask": ({"batch_first": True}, {"attn_mask": FLOATS}, FLOATS),
    "padded": ({"batch_first": True}, {"key_padding_mask": PADDING}, ~PADDING),
}


@pytest.mark.parametrize("options, call, mask", LAYERS.values(), ids=LAYERS)
def test_multi_head_attention(options, call, mask):
    layer = attention(**options)

    def f(self, z):
        x, inputs = tokens(z), dict(call)
        if "key_padding_mask" in inputs:
            inputs["key_padding_mask"] = PADDING.expand(len(x), -1)
        return layer(x, x, x, **inputs)[0]

    agree(f, lambda self, z: projected(layer, tokens(z), mask))


def test_attention_over_the_first_dimension_and_with_its_own_widths():
    layer = attention()
    agree(
        lambda self, z: layer(*[tokens(z).transpose(0, 1)] * 3)[0].transpose(0, 1),
        lambda self, z: projected(layer, tokens(z)),
    )
    own = attention(kdim=4, vdim=4, batch_first=True)
    own._qkv_same_embed_dim = False
    other = attention(kdim=2, vdim=3, batch_first=True)
    f = lambda self, z: other(tokens(z), tokens(z)[..., :2], tokens(z)[..., 1:])[0]  # noqa: E731

    def twin(self, z):
        with held_constant():
            return f(self, z)

    agree(f, twin)


def test_dropped_attention_weights_are_those_of_the_forward_pass():
    layer, x = attention(dropout=0.5, batch_first=True).train(), images(3, 8, 8)
    net = Between(lambda self, z: layer(*[tokens(z)] * 3, need_weights=False)[0])
    torch.manual_seed(1)
    with isnetlib.LRP(0.0, None) as lrp:
        logits = net(x)
    torch.manual_seed(1)
    with isnetlib.LRP(0.0, None):
        assert torch.equal(net(x), logits)
    twin = x.clone().requires_grad_()
    torch.manual_seed(1)
    with held_constant():
        F_attention = F.scaled_dot_product_attention

        def dropped(q, k, v, mask=None, dropout_p=0.0, is_causal=False):
            return F.dropout((q @ k.mT / 2**0.5).softmax(-1).detach(), dropout_p) @ v

        with twins.mock.patch.object(F, "scaled_dot_product_attention", dropped):
            output = net(twin)
        assert F_attention is F.scaled_dot_product_attention
    gradient = torch.autograd.grad(output[:, 1].sum(), twin)[0]
    assert unlike(lrp.relevance(isnetlib.start_for(logits, 1), logits)[:, 0], x * gradient) < 1e-10


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_what_multi_head_attention_does_not_cover(options):
    layer = attention(batch_first=True, **options)
    net = Between(lambda self, z: layer(*[tokens(z)] * 3)[0])
    with pytest.raises(isnetlib.NotCovered, match="MultiheadAttention\\): multi_head_attention_forward: .*bias_k"):
        isnetlib.explain(net, images(3, 8, 8))


# --------------------------------------------------------------------------------------------------- shared
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


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("attached", [True, False])
def test_the_heatmap_loss_trains_queries_and_deviations_or_not(gates, attached):
    """A weight before the queries, and one before a deviation that nothing else sees."""
    net, x = Between(lambda self, z: z), images(3, 8, 8)
    net.f = lambda self, z: F.layer_norm((tokens(z) * self.scale.sum() @ z.flatten(2)).softmax(-1) @ tokens(z), (4,))
    with isnetlib.LRP(box=None, gates=gates, gate_gradient=attached) as lrp:
        logits = net(x)
    R = lrp.relevance(isnetlib.start_for(logits, 1), logits)
    slope = torch.autograd.grad(R.square().sum(), net.scale, allow_unused=True)[0]
    if gates == "constant":
        assert (slope is not None and slope.any().item()) == attached
    else:
        assert slope.any()  # by the path through the scores
