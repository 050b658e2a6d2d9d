"""Layer-wise relevance propagation (LRP) that one can train through.

    with isnetlib.LRP(eps=1e-2, box=(0.0, 1.0)) as lrp:
        logits = model(x)                     # the one forward pass: it serves the classification loss too
    R = lrp.relevance(start, logits)          # relevance at the input, (B, M, C, H, W), differentiable

LRP explains a logit by sharing it out backwards, layer by layer, down to the pixels. With z_k = sum_j a_j w_jk + b_k
the LRP-eps rule is

    R_j = sum_k a_j w_jk / (z_k + eps s(z_k)) R_k,        s(z) = 1 for z >= 0, else -1,

and the z^B rule takes its place at the first layer, so that black pixels (a_j = 0) can be relevant too.
`isnetlib.method.rules` says how each operation hands relevance back. `LRP` records the operations of a forward pass, of
a model as it is, and walks them backwards; `explain` does both; `check` tells whether a network is covered.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from isnetlib.method import operations  # noqa: F401 - registers its rules
from isnetlib.method.ablations import rules_for
from isnetlib.method.graph import HIDDEN, Graph, NotCovered
from isnetlib.method.kernels import ZBoxPixels, ratio, z_box_floor, z_box_share
from isnetlib.method.options import bounds, flag, number


# --- the relevance pass
class LRP(TorchFunctionMode):
    """Records one forward pass and pulls relevance back through it.

    eps: the stabiliser of LRP-eps; 0 gives LRP-0 (input x gradient). box: (low, high) of the pixels for z^B, each a
    number or one a channel, e.g. (0, 1), or ((0 - mean) / std, (1 - mean) / std) for standardised images; None: no z^B.
    gates: what a product x g with a gate g (squeeze-excitation, attention weights) does. "constant": g is a constant
    factor, as are the deviations in LayerNorm and its kin; what acts through g alone does not show in the map.
    "shared": x and g have half each of what exceeds g's value at rest (`Graph.product`), so that it does. bf16: whether
    convolutions pull G back and are differentiated in bfloat16, for speed where the processor has it. ablation: see
    `isnetlib.method.ablations`. The activations are held until the object is dropped. One forward pass at a time: the
    images `image` (B, C, H, W); None: the first 4-D tensor that the model reads and that is no Parameter.
    """

    def __init__(
        self,
        eps: float = 1e-2,
        box: tuple | None = (0.0, 1.0),
        gates: str = "constant",
        bf16: bool = False,
        ablation: dict | None = None,
        image: Tensor | None = None,
    ):
        super().__init__()
        if gates not in ("constant", "shared"):
            raise ValueError(f'gates must be "constant" or "shared", got {gates!r}')
        self.eps, self.box, self.block = number("eps", eps), bounds("box", box), (ablation or {}).get("block")
        dtype = torch.bfloat16 if flag("bf16", bf16) else None
        self.new_graph = partial(Graph, eps, box is not None, gates, dtype, rules_for(ablation or {}), image)
        self.graph = self.new_graph()

    def __enter__(self):
        self.graph = self.new_graph()
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.graph.run(func, *args, **(kwargs or {}))

    def relevance(self, start: Tensor, logits: Tensor) -> Tensor:
        """Relevance at the input, raw and signed, (B, M, C, H, W), from the initial G `start` (B, M, K) at the logits
        (B, K) of the forward pass. Differentiable by weights, and by `start`.

        Raises NotCovered where an operation on the way has no rule, ValueError where shapes or the box do not fit.
        """
        end = self._end(start, logits)
        if self.block:
            start = start * ratio(logits, logits, self.eps)[:, None]
        grad, full = torch.set_grad_enabled(torch.is_grad_enabled()), torch.autocast(start.device.type, enabled=False)
        # in inference mode autograd finds no transpose
        with torch._C.DisableTorchFunction(), full, torch.inference_mode(False), grad:
            return self._walk(end, start.transpose(0, 1)).transpose(0, 1)

    def _end(self, start, logits):
        """The node of the logits; everything between it and the image is covered."""
        x, end = self.graph.x, self.graph.node(logits)
        if end is None:
            own = "are they of this forward pass, inside `with LRP() as lrp:`?"
            raise NotCovered(f"no operation was seen that leads to these logits: {own}{HIDDEN}")
        if x.dtype in (torch.float16, torch.bfloat16):
            raise ValueError("half precision: keep the model and images in float32; torch.autocast may be on")
        if start.ndim != 3 or start.shape[::2] != logits.shape or len(start) != len(x):
            where = f"images {tuple(x.shape)} and logits {tuple(logits.shape)}"
            raise ValueError(f"start must be (batch, maps, classes) for {where}, got {tuple(start.shape)}")
        if refused := self.graph.refused(end)[::-1]:
            raise NotCovered("LRP does not cover this network:\n  " + "\n  ".join(refused))
        return end

    def _walk(self, end, g):
        # G by node; C: below the first layer, the maps c(w) and c(w-) of z^B; found: relevance of the pixels.
        G, C, found = {end: g.to(torch.promote_types(g.dtype, torch.float32))}, {}, []
        way = self.graph.upstream(end)
        _take_gains(way)
        for node in way:
            if node in G and self.graph.is_first_layer(node):
                relu = node.relu and node.consumers == 1 and node is not end
                self._first_layer(node, G.pop(node), C, found, relu)
            for maps in (G, C):
                if node in maps:
                    for parent, pulled in zip(node.parents, node.pull(maps.pop(node)), strict=True):
                        _add(maps, parent, pulled)
        root, x = self.graph.root, self.graph.x
        if self.box is not None and root not in C and not found:
            raise NotCovered("z^B needs a convolution or linear layer that reads the image; box=None does without z^B")
        if root in G:
            found.append(x * G[root])
        if root in C:
            (above, width), (a, b) = self._in_the_box(), C[root].chunk(2)
            found.append(above * a - width * b)
        return sum(found)

    # --- z^B at the pixels
    def _first_layer(self, node, g, C, found, relu):
        parent, layer, x, box = node.parents[0], node.layer, self.graph.x, self._box()
        if parent is self.graph.root and layer.conf is not None and not x.requires_grad:
            floor = z_box_floor(layer, *box, x.shape[2:])
            pixels = (node.z, floor, layer.weight, *self._in_the_box(), relu, self.eps, layer.conf)
            found.append(ZBoxPixels.apply(g, *pixels))
        else:
            floor = z_box_floor(layer, *(self._seen_at(parent, bound) for bound in box))
            share, weights = z_box_share(g, node.z, floor, relu, self.eps), (layer.weight, layer.weight.clamp(max=0))
            _add(C, parent, torch.cat([layer.transpose(share, w, parent.shape) for w in weights]))

    def _in_the_box(self):
        """x - l (B, C, H, W) and h - l (1, C or 1, 1, 1); raises ValueError where pixels leave the box."""
        x, (low, high) = self.graph.x, self._box()
        outside = 1e-3 * (high - low)
        if not ((x >= low - outside) & (x <= high + outside)).all():  # NaN, too
            own = "give your images' range, e.g. box=((0 - mean) / std, (1 - mean) / std) where they are standardised"
            raise ValueError(f"pixels from {x.min():.3g} to {x.max():.3g} leave the box {self.box}: {own}")
        return x - low, high - low

    def _box(self):
        """The box's lower and upper bound as images of one pixel, (1, C or 1, 1, 1)."""
        x = self.graph.x
        bounds = [torch.as_tensor(bound, dtype=x.dtype, device=x.device).view(1, -1, 1, 1) for bound in self.box]
        if wrong := {bound.shape[1] for bound in bounds} - {1, x.shape[1]}:
            raise ValueError(f"box has {wrong.pop()} channels, the images {x.shape[1]}")
        return bounds

    def _seen_at(self, node, bound, batch=1):
        """The bound as the layer that reads `node` sees it."""
        if node is self.graph.root:
            return bound.expand(batch, *self.graph.x.shape[1:])
        return node.image([self._seen_at(parent, bound, len(self.graph.x)) for parent in node.parents])


def _take_gains(way):
    """A convolution that alone reads a ReLU takes the factor of the BatchNorm before it."""
    readers = {}
    for node in way:
        for parent in node.parents:
            readers.setdefault(parent, []).append(node)
    for node in way:
        if node.gain:
            layers = [reader.layer for reader in readers.get(node, [])]
            node.gain.above = len(layers) == 1 and layers[0] is not None and layers[0].conf is not None


def _add(maps: dict, node, g: Tensor | None) -> None:
    if g is not None:
        maps[node] = maps[node] + g if node in maps else g


# --- in one call
def explain(model: nn.Module, x: Tensor, target=None, eps=1e-2, box: tuple | None = (0.0, 1.0), **options) -> Tensor:
    """Raw, signed relevance of the pixels x (B, C, H, W) for a class: (B, M, C, H, W), without gradient.

    target: None = winning class | int | LongTensor (B,) | "all" | "selective"; M = number of classes for "all", else 1.
    eps = 0, box = None equals input x gradient (of the network with gates and ratios f(z)/z, but those of ReLU and
    LeakyReLU, held constant). options: see `LRP`. The model is explained in the mode (train or eval) that it is in and
    left as it was; a warning where BatchNorm would take its statistics from one image.
    """
    if len(x) == 1 and any(module.training and isinstance(module, _BatchNorm) for module in model.modules()):
        warnings.warn("the model is in train mode: BatchNorm takes the statistics of this one image", stacklevel=2)
    with torch.inference_mode(False), torch.no_grad():
        refuse_hidden(model)
        x = x.clone() if x.is_inference() else x
        lrp, logits = _run(model, x, partial(LRP, eps, box, **options))
        return lrp.relevance(start_for(logits, target), logits)


def check(model: nn.Module, input_size: tuple = (3, 224, 224), box: tuple | None = (0.0, 1.0), **options) -> None:
    """Raise NotCovered, naming each module path and the reason, where LRP does not cover `model` on such images."""
    refuse_hidden(model)
    parameter = next(model.parameters(), torch.empty(0))
    with torch.inference_mode(False):
        low = torch.as_tensor(box[0] if box else 0).to(parameter).view(-1, 1, 1)
        lrp, logits = _run(model, low.detach().expand(2, *input_size).clone(), partial(LRP, 1e-2, box, **options))
        lrp.relevance(torch.zeros_like(logits)[:, None], logits)


def _run(model: nn.Module, x: Tensor, lrp: Callable, grad: bool = False) -> tuple[LRP, Tensor]:
    """A forward pass, without gradient or with one by x, that leaves running statistics and random generators alone."""
    training = any(module.training for module in model.modules())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()} if training else {}
    devices, x = [x.device] if x.device.type == "cuda" else [], x.detach().requires_grad_(grad)
    rng = torch.random.fork_rng(devices, enabled=training)
    with torch.set_grad_enabled(grad), rng, lrp(image=x) as seen:
        logits = logits_of(torch.func.functional_call(model, buffers, (x,)) if buffers else model(x))
    if not grad:
        refuse_unseen(model, x, lrp, seen, buffers.values())
    return seen, logits


def refuse_unseen(model: nn.Module, x: Tensor, lrp: Callable, seen: LRP, buffers=()) -> None:
    """Raise NotCovered where tensors of unknown origin depend on the images x, as autograd tells in another pass."""
    if seen.graph.strangers - {id(t) for t in (*buffers, *model.buffers())}:
        again, logits = _run(model, x, lrp, grad=True)
        again._end(torch.zeros_like(logits)[:, None], logits)


def refuse_hidden(model: nn.Module) -> None:
    """Raise NotCovered where parts of `model` are scripted or compiled: their operations cannot be seen."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise NotCovered(f"{path or 'the model itself'}: scripted or compiled, so not seen: use the plain module")


def logits_of(output) -> Tensor:
    """The logits (B, K) in a classifier's output: a tensor, the first of a tuple, or `.logits`; else ValueError."""
    shapes = [tuple(t.shape) for t in output if isinstance(t, Tensor)] if type(output) is tuple else []
    if len(set(shapes)) < len(shapes):
        raise ValueError(f"which of the outputs {shapes} are the logits? Return them alone")
    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = getattr(logits, "shape", type(logits))
        raise ValueError(f"a classifier must return logits (batch, classes), got {got}")
    return logits


# --- what is explained
def start_for(logits: Tensor, target=None) -> Tensor:
    """Initial G at the logits y, (B, M, K): the derivative of what is explained by y; R = y G.

    target: None = the winning class | int | LongTensor (B,) | "all" (M = K maps, one a class) | "selective" (see
    `selective_start`). Raises ValueError for a class that does not exist.
    """
    batch, classes = logits.shape
    if isinstance(target, str):
        if target == "all":
            return torch.eye(classes, dtype=logits.dtype, device=logits.device).expand(batch, -1, -1)
        if target == "selective":
            return selective_start(logits)
        raise ValueError(f"target {target!r}: use None, a class number, a LongTensor of them, 'all' or 'selective'")
    target = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device).expand(batch)
    if target.is_floating_point() or target.amin() < 0 or target.amax() >= classes:
        raise ValueError(f"target must hold class numbers from 0 to {classes - 1}")
    return nn.functional.one_hot(target, classes).to(logits.dtype)[:, None]


def selective_start(logits: Tensor) -> Tensor:
    """Selective ISNet explains eta_c = log(P_c / (1 - P_c)) = y_c - logsumexp_{c' != c} y_c' of the least likely class
    c (arXiv 2401.08409). Its derivative, (B, 1, K): 1 at c and minus the softmax over the other classes elsewhere.

    The winner dominates that softmax, so one map holds the evidence for the winner and for the loser. One logit
    (binary): eta is the log-odds of the less likely answer, y or -y.
    """
    if logits.shape[1] == 1:
        return torch.where(logits > 0, -1.0, 1.0).to(logits.dtype)[:, None]
    lowest = nn.functional.one_hot(logits.argmin(1), logits.shape[1]).bool()
    others = logits.masked_fill(lowest, -torch.inf).softmax(1)
    return (lowest.to(logits.dtype) - others)[:, None]
