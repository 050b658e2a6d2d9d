"""Layer-wise relevance propagation (LRP) that one can train through.

    with isnetlib.LRP(eps=1e-2, box=(0.0, 1.0)) as lrp:
        logits = model(x)                     # the one forward pass: it serves the classification loss too
    R = lrp.relevance(start)                  # relevance at the input, (B, M, C, H, W), differentiable

LRP explains a logit by sharing it out backwards, layer by layer, down to the pixels. With z_k = sum_j a_j w_jk + b_k
the LRP-eps rule is

    R_j = sum_k a_j w_jk / (z_k + eps s(z_k)) R_k,        s(z) = 1 for z >= 0, else -1,

and the z^B rule (`isnetlib.zbox`) takes its place at the first layer, so that black pixels (a_j = 0) can be relevant
too. What is explained, one logit or a contrast of them, is the `start` of the relevance pass (`isnetlib.starts`).
`isnetlib.rules` says how each operation hands relevance back; this file runs the rules: `LRP` records the operations of
a forward pass, `relevance` walks them backwards, `explain` does both for any classifier, `check` tells whether a
network is covered. Nothing is edited: the model is called as it is.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isnetlib.ablations import ratio, rules_for
from isnetlib.functions import ZBoxPixels
from isnetlib.graph import HIDDEN, Graph, NotCovered
from isnetlib.nodes import Node
from isnetlib.starts import start_for
from isnetlib.zbox import z_box_floor, z_box_share


# --- the relevance pass
class LRP(TorchFunctionMode):
    """Records one forward pass and pulls relevance back through it.

    eps: the stabiliser of LRP-eps; 0 gives LRP-0 (input x gradient). box: (low, high) of the pixels for z^B, each a
    number or one a channel, e.g. (0, 1), or ((0 - mean) / std, (1 - mean) / std) for standardised images; None: no z^B.
    compile: run the rule of ReLU through torch.compile, which needs a C++ compiler: the first steps take longer, the
    others less time on some networks. dtype: of the arithmetic in which convolutions pull G back and are
    differentiated, torch.bfloat16 for speed where the processor has it; None: that of the tensors. gates: what a
    product x g with a gate g (squeeze-excitation, attention weights) does. "constant": g is a constant factor, as are
    the deviations in LayerNorm and its kin; what acts through g alone does not show in the map. "shared": x and g have
    half each of what exceeds g's value at rest (`Graph.product`), so that it does. gate_gradient: whether the heatmap
    loss also trains those factors. statistics, biases, block: ablations, see `isnetlib.ablations`. The activations are
    held until the object is dropped. One forward pass at a time: the first 4-D tensor that the model reads and that is
    no Parameter is taken as the image batch.
    """

    def __init__(
        self,
        eps: float = 1e-2,
        box: tuple | None = (0.0, 1.0),
        compile: bool = False,
        dtype: torch.dtype | None = None,
        gates: str = "constant",
        gate_gradient: bool = True,
        statistics: str = "constant",
        biases: str = "live",
        block: bool = False,
    ):
        super().__init__()
        if eps < 0:
            raise ValueError(f"eps must be 0 or positive, got {eps}")
        if gates not in ("constant", "shared"):
            raise ValueError(f'gates must be "constant" or "shared", got {gates!r}')
        self.eps, self.box, self.pulling = eps, box, False
        self.block, rules = block, rules_for(statistics, biases, block)
        self.switches = {
            "compile": compile,
            "dtype": dtype,
            "gates": gates,
            "gate_gradient": gate_gradient,
            "rules": rules,
        }
        self.graph = Graph(eps, box is not None, **self.switches)

    def __enter__(self):
        self.graph = Graph(self.eps, self.box is not None, **self.switches)
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {})) if self.pulling else self.graph.run(func, args, kwargs or {})

    def relevance(self, start: Tensor, logits: Tensor | None = None) -> Tensor:
        """Relevance at the input, raw and signed, (B, M, C, H, W), from the initial G `start` (B, M, K) at the logits.

        logits: what `start` belongs to; None = the last (B, K) output of the forward pass. Differentiable by weights,
        and by `start`. Raises NotCovered where an operation on the way has no rule, ValueError where shapes or the box
        do not fit.
        """
        end = self._end(start, logits)
        if self.block:
            if logits is None:
                raise ValueError("block=True needs the logits: relevance(start, logits)")
            start = start * ratio(logits, self.eps)[:, None]
        self.pulling, grad = True, torch.is_grad_enabled()
        try:  # in inference mode no transpose can be found by autograd; outside of it this changes nothing
            with (
                torch.inference_mode(False),
                torch.set_grad_enabled(grad),
                torch.autocast(start.device.type, enabled=False),
            ):
                return self._walk(end, start.transpose(0, 1)).transpose(0, 1)
        finally:
            self.pulling = False

    def _end(self, start, logits):
        if self.graph.root is None:
            raise NotCovered(f"no operation was seen: run the model inside `with LRP() as lrp:`{HIDDEN}")
        if start.ndim != 3 or len(start) != len(self.graph.x):
            raise ValueError(
                f"start must be (batch, maps, classes) for images {tuple(self.graph.x.shape)}, got {tuple(start.shape)}"
            )
        shape = start.shape[::2]
        if logits is not None and logits.shape != shape:
            raise ValueError(
                f"start must be (batch, maps, classes) for logits {tuple(logits.shape)}, got {tuple(start.shape)}"
            )
        if logits is not None and not self.graph.tracked(logits):
            raise NotCovered(
                f"no operation that was seen leads from the image to these logits: are they of this forward "
                f"pass?{HIDDEN}"
            )
        end = (
            self.graph.nodes[logits]
            if logits is not None
            else next((n for n in reversed(self.graph.tape) if n.shape == shape), None)
        )
        if end is None:
            raise ValueError(
                f"start is {tuple(start.shape)}, but no output of the forward pass has shape {tuple(shape)} (batch, "
                f"classes)"
            )
        if refused := self.graph.refused(end)[::-1]:
            raise NotCovered("LRP does not cover this network:\n  " + "\n  ".join(refused))
        return end

    def _walk(self, end, g):
        # G by node; C: below the first layer, the maps c(w) and c(w-) of z^B; R: what z^B gave the pixels already.
        G, C, R = {end: g.to(torch.promote_types(g.dtype, torch.float32))}, {}, {}
        for node in self.graph.upstream(end):
            for maps in (G, C):
                if node not in maps:
                    continue
                g = maps.pop(node)
                if self.graph.is_first_layer(node) and maps is G:
                    self._first_layer(node, g, C, R, relu=node.relu and node.consumers == 1 and node is not end)
                else:
                    for parent, pulled in zip(node.parents, node.pull(g), strict=True):
                        _add(maps, parent, pulled)
        root = self.graph.root
        if self.box is not None and root not in C and root not in R:
            raise NotCovered(
                "z^B needs a convolution or linear layer that reads the image; pass box=None to explain by LRP-eps "
                "alone"
            )
        parts = [R.get(root), *self._at_the_pixels(G.get(root), C.get(root))]
        return sum(part for part in parts if part is not None)

    def _first_layer(self, node, g, C, R, relu):
        parent, layer, x = node.parents[0], node.layer, self.graph.x
        share = partial(z_box_share, relu=relu, eps=self.eps)
        if parent is self.graph.root and layer.conf is not None and not x.requires_grad:
            floor = z_box_floor(layer, self._box(0), self._box(1), x.shape[2:])
            above, width = self._in_the_box()
            _add(R, parent, ZBoxPixels.apply(g, node.z, floor, layer.weight, above, width, share, layer.conf))
        else:
            floor = z_box_floor(layer, self._box_image(parent, 0), self._box_image(parent, 1))
            both = layer.transpose_both(share(g, node.z, floor), layer.weight, layer.weight.clamp(max=0), parent.shape)
            _add(C, parent, torch.cat(both))

    def _at_the_pixels(self, g, c):
        yield None if g is None else self._pixels() * g
        if c is not None:
            (above, width), (a, b) = self._in_the_box(), c.chunk(2)
            yield above * a - width * b

    def _pixels(self):
        return self.graph.x if self.graph.x.dtype == torch.float64 else self.graph.x.float()

    def _in_the_box(self):
        """x - l (B, C, H, W) and h - l (1, C or 1, 1, 1); raises ValueError where pixels leave the box."""
        x, low, high = self._pixels(), *(self._box(k) for k in (0, 1))
        outside = 1e-3 * (high - low)
        if (x < low - outside).any() or (x > high + outside).any():
            raise ValueError(
                f"pixels from {x.min():.3g} to {x.max():.3g} leave the box {self.box}: give LRP the range of your "
                f"images, e.g. box=((0 - mean) / std, (1 - mean) / std) where they are standardised"
            )
        return x - low, high - low

    def _box(self, k):
        """The box's lower (k = 0) or upper (k = 1) bound as an image of one pixel, (1, C or 1, 1, 1)."""
        return torch.as_tensor(self.box[k], dtype=self.graph.x.dtype, device=self.graph.x.device).view(1, -1, 1, 1)

    def _box_image(self, node, k):
        if node is self.graph.root:
            return self._box(k).expand(1, *self.graph.x.shape[1:])
        return node.image(
            [
                self._box(k).expand(self.graph.x.shape) if p is self.graph.root else self._box_image(p, k)
                for p in node.parents
            ]
        )


# --- in one call
def logits_of(output) -> Tensor:
    """The main logits (B, K) of what a classifier returns: a tensor, or a tuple or object that holds `logits`
    (GoogLeNet, Inception).
    """
    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(
            f"a classifier must return logits (batch, classes), got {getattr(logits, 'shape', type(logits))}"
        )
    return logits


def refuse_hidden(model: nn.Module) -> None:
    """Raise NotCovered where parts of `model` are scripted or compiled: their operations cannot be seen."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise NotCovered(
                f"{path or 'the model itself'}: scripted or compiled, so its operations cannot be seen: use the plain "
                f"module"
            )


def _run(model: nn.Module, x: Tensor, eps: float, box, **switches) -> tuple[LRP, Tensor]:
    """One forward pass without gradient that leaves buffers (running statistics) and random generators as they were."""
    refuse_hidden(model)
    training = any(module.training for module in model.modules())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()} if training else {}
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices, enabled=training), LRP(eps, box, **switches) as lrp:
        lrp.graph.find_image([x])
        logits = logits_of(torch.func.functional_call(model, buffers, (x,)) if buffers else model(x))
    return lrp, logits


def explain(
    model: nn.Module, x: Tensor, target=None, eps: float = 1e-2, box: tuple | None = (0.0, 1.0), **switches
) -> Tensor:
    """Raw, signed relevance of the pixels x (B, C, H, W) for a class: (B, M, C, H, W), without gradient.

    target: None = winning class | int | LongTensor (B,) | "all" | "selective"; M = number of classes for "all", else 1.
    eps = 0, box = None equals input x gradient (of the network with gates and ratios f(z)/z, but those of ReLU and
    LeakyReLU, held constant). switches: see `LRP`. The model is explained in the mode (train or eval) that it is in and
    left as it was.
    """
    with torch.inference_mode(False), torch.no_grad():
        lrp, logits = _run(model, x.detach().clone() if x.is_inference() else x.detach(), eps, box, **switches)
        return lrp.relevance(start_for(logits, target), logits)


def check(model: nn.Module, input_size: tuple = (3, 224, 224), box: tuple | None = (0.0, 1.0), **switches) -> None:
    """Raise NotCovered, naming each module path and the reason, where LRP does not cover `model` on images of
    `input_size`; else return nothing.
    """
    parameter = next(model.parameters(), torch.empty(0))
    x = torch.zeros(2, *input_size, device=parameter.device, dtype=parameter.dtype)
    lrp, logits = _run(model, x, 1e-2, box, **switches)
    lrp.relevance(torch.zeros_like(logits)[:, None], logits)


def _add(maps: dict[Node, Tensor], node: Node, g: Tensor | None) -> None:
    if g is not None:
        maps[node] = maps[node] + g if node in maps else g
