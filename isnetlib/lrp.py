"""Layer-wise relevance propagation (LRP) that one can train through.

    with isnetlib.LRP(eps=1e-2, box=(0.0, 1.0)) as lrp:
        logits = model(x)                     # the one forward pass: it serves the classification loss too
    R = lrp.relevance(start)                  # relevance at the input, (B, M, C, H, W), differentiable

LRP explains a logit by sharing it out backwards, layer by layer, down to the pixels. With z_k = sum_j a_j w_jk + b_k the LRP-eps rule is

    R_j = sum_k a_j w_jk / (z_k + eps s(z_k)) R_k,        s(z) = 1 for z >= 0, else -1,

and the z^B rule takes its place at the first layer, so that black pixels (a_j = 0) can be relevant too. `isnetlib.rules` says how each operation hands
relevance back; this file runs the rules: `LRP` records the operations of a forward pass, `relevance` walks them backwards, `explain` does both for any
classifier, `check` tells whether a network is covered. Nothing is edited: the model is called as it is.
"""

import sys

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from isnetlib.rules import CONSTANT, KEEPS_SIGN, LINEAR, RULES, SAME_AS, Layer, Node, Scale, divide, stabilise, transpose


HIDDEN = " (Scripted and compiled code, and functions of NumPy, hide their operations.)"


class NotCovered(NotImplementedError):
    """Relevance would have to pass an operation that has no rule; the message names its module and the reason."""


# ---------------------------------------------------------------------------------------------------- what is explained: the start at the logits
def start_for(logits: Tensor, target=None) -> Tensor:
    """Initial G at the logits, (B, M, K): the derivative of the explained quantity by the logits.

    target: None = the winning class | int | LongTensor (B,) | "all" (M = K maps, one a class) | "selective" (see `selective_start`).
    Raises ValueError for a class that does not exist.
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
    """Selective ISNet explains eta_c = log(P_c / (1 - P_c)) = y_c - logsumexp_{c' != c} y_c' of the least likely class c (arXiv 2401.08409).

    Its derivative: 1 at c and minus the softmax over the other classes elsewhere, (B, 1, K). The winner dominates that softmax, so one map holds the
    evidence for the winner and for the loser. One logit (binary): eta is the log-odds of the less likely answer, y or -y.
    """
    if logits.shape[1] == 1:
        return torch.where(logits > 0, -1.0, 1.0).to(logits.dtype)[:, None]
    lowest = nn.functional.one_hot(logits.argmin(1), logits.shape[1]).bool()
    others = logits.masked_fill(lowest, -torch.inf).softmax(1)
    return (lowest.to(logits.dtype) - others)[:, None]


# --------------------------------------------------------------------------------------------------------------------------------- the z^B rule
def z_box(layer: Layer, z: Tensor, a: Tensor, G: Tensor, low: Tensor, high: Tensor, shape: torch.Size, eps: float) -> Tensor:
    """z^B at the first layer for pixels in the box [l, h]: the two transposed maps c(w) and c(w-), stacked, (2M, B, ...).

        R_j = sum_k (x_j w_jk - l_j w+_jk - h_j w-_jk) / (D_k + eps s(D_k)) R_k = (x_j - l_j) c_j(w) - (h_j - l_j) c_j(w-)
        D_k = sum_j (x_j w_jk - l_j w+_jk - h_j w-_jk) + b+_k,            c(w): the transposed layer applied to R / (D + eps s(D))

    z (B, ...): the layer's output; R = a * G its relevance, G (M, B, ...), a = z or its ReLU; low, high: images of the box as the layer sees them; zero padding pads x, l
    and h alike. The bias is one more input, fixed at 1 in a box [0, 1].
    """
    negative = layer.weight.clamp(max=0)
    floor = layer.forward(low, layer.weight) + layer.forward(high - low, negative)
    if layer.bias is not None:
        floor = floor + layer.bias.clamp(max=0).view(-1, *[1] * (layer.weight.ndim - 2))
    D = stabilise(z - floor, eps)
    share = Scale.apply(G, a / D if eps else divide(a, D))
    return torch.cat(layer.transpose_both(share, layer.weight, negative, shape))


# ------------------------------------------------------------------------------------------------------------------------- the relevance pass
class LRP(TorchFunctionMode):
    """Records one forward pass and pulls relevance back through it.

    eps: the stabiliser of LRP-eps; 0 gives LRP-0 (input x gradient). box: (low, high) of the pixels for z^B, each a number or one a channel, e.g.
    (0, 1), or ((0 - mean) / std, (1 - mean) / std) for standardised images; None: no z^B. The activations are held until the object is dropped.
    One forward pass at a time: the first 4-D tensor that the model reads and that is no Parameter is taken as the image batch.
    """

    def __init__(self, eps: float = 1e-2, box: tuple | None = (0.0, 1.0)):
        super().__init__()
        if eps < 0:
            raise ValueError(f"eps must be 0 or positive, got {eps}")
        self.eps, self.box = eps, box
        self._forget()

    def _forget(self):
        self.x, self.root, self.name, self.busy, self.tape = None, None, "", False, []
        self.nodes, self.replaced, self.seen = (WeakTensorKeyDictionary() for _ in range(3))  # seen: what does not depend on the image

    def __enter__(self):
        self._forget()
        return super().__enter__()

    # ---- what the rules ask
    def tracked(self, value) -> bool:
        """Whether `value` is a tensor that depends on the image."""
        return isinstance(value, Tensor) and value in self.nodes

    def node(self, value: Tensor) -> Node:
        """The operation that made `value`."""
        return self.nodes[value]

    def is_first_layer(self, node: Node) -> bool:
        """Whether z^B applies at this node: a linear layer that reads the pixels."""
        return self.box is not None and node.layer is not None and node.parents[0].image is not None

    def overwrite(self, old: Tensor, new: Tensor):
        """An operation in place on `old`: it was done out of place, and `new` stands for `old` from now on."""
        self.replaced[old] = new
        if old in self.nodes and not _same_memory(old, new):
            self.nodes[old].memory().spoiled = True

    def refuse(self, why: str):
        """(None, Node) of an operation without a rule: harmless unless relevance has to pass through it."""
        return None, Node(self.name, [], torch.Size(), why=f"{_place()}: {self.name}: {why}")

    def linear(self, function, *args, output=None, keeps_sign=False, **kwargs):
        """(output, Node or list of Nodes) of a linear operation without weights: its transpose comes from autograd."""
        if any(isinstance(t, Tensor) and t.grad_fn is not None and not self.tracked(t) and t not in self.seen for t in _leaves((args, kwargs))):
            return self.refuse(f"one of its inputs was made out of sight and may depend on the image{HIDDEN}")
        output = function(*args, **kwargs) if output is None else output
        tensors = [t for t in _leaves((args, kwargs)) if self.tracked(t)]
        parents = [self.node(t) for t in tensors]
        slots = {id(t): _Slot(k) for k, t in reversed(list(enumerate(tensors)))}
        args, kwargs = _map((args, kwargs), lambda leaf: slots.get(id(leaf), leaf))

        def node_of(part, k):
            def replay(images):
                a, kw = _map((args, kwargs), lambda leaf: images[leaf] if isinstance(leaf, _Slot) else _usable(leaf))
                result = function(*a, **kw)
                return result if k is None else result[k]

            shapes = [p.shape for p in parents]
            image = replay if keeps_sign else None
            return Node(self.name, parents, part.shape, lambda g: transpose(replay, shapes, g), image=image)

        return output, (node_of(output, None) if isinstance(output, Tensor) else [node_of(part, k) for k, part in enumerate(output)])

    # ---- the forward pass
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.busy:
            return func(*args, **kwargs)
        if self.replaced:
            args, kwargs = _map((args, kwargs), self._current)
        inputs = [t for t in _leaves((args, kwargs)) if isinstance(t, Tensor) and t.is_floating_point()]
        if self.x is None:
            self._find_image(inputs)
        inputs = [self.nodes[t] for t in inputs if t in self.nodes]
        name = getattr(func, "__name__", "").strip("_")
        if not inputs or name in CONSTANT:
            output = func(*args, **kwargs)
            self.seen.update((t, True) for t in _leaves((output,)) if isinstance(t, Tensor) and t.grad_fn is not None)
            return output
        self.name = SAME_AS.get(name, name)
        args, kwargs = _by_position(args, kwargs)
        return self._record(func, args, kwargs, spoiled=any(node.memory().spoiled for node in inputs))

    def _current(self, leaf):
        while isinstance(leaf, Tensor) and leaf in self.replaced:
            leaf = self.replaced[leaf]
        return leaf

    def _find_image(self, inputs):
        self.x = next((t for t in inputs if t.ndim == 4 and not isinstance(t, nn.Parameter)), None)
        if self.x is not None:
            self.root = self.nodes[self.x] = Node("image", [], self.x.shape, image=lambda images: images[0])

    def _record(self, func, args, kwargs, spoiled):
        in_place = _in_place(func.__name__)
        if spoiled:  # its values would be wrong, not only its relevance
            why = "its input shares memory with a tensor that was overwritten in place: use the result of that operation instead"
            raise NotCovered(self.refuse(why)[1].why)
        if self.name in RULES:
            output, node = RULES[self.name](self, *args, **kwargs)
        elif self.name in LINEAR:
            out_of_place = getattr(torch.Tensor, self.name) if in_place else func
            keeps_sign = self.name in KEEPS_SIGN and "bicubic" not in _leaves((args, kwargs))  # bicubic weights are partly negative
            output, node = self.linear(out_of_place, *args, keeps_sign=keeps_sign, **kwargs)
        else:
            output, node = None, None
        if output is None:
            target = args[0].clone() if in_place else args[0] if args else None
            output = func(target, *args[1:], **kwargs) if args else func(**kwargs)
            output = target if in_place else output
        self._remember(output, node, args)
        if in_place:
            self.overwrite(args[0], output)
        return output

    def _remember(self, output, node, args):
        parts = list(output) if isinstance(node, list) else [t for t in _leaves((output,)) if isinstance(t, Tensor)]
        nodes = node if isinstance(node, list) else [node] * len(parts)
        for part, made in zip(parts, nodes, strict=True):
            made = made or self.refuse("this operation has no relevance rule (see isnetlib.rules for how to add one)")[1]
            if not part.is_floating_point() or (part in self.nodes and not made.why):
                continue  # a mask, an index, or the very tensor that went in (dropout in eval mode)
            if made.why:
                made.parents = [self.nodes[t] for t in _leaves((args,)) if self.tracked(t)]
            if made.image is not None and any(p.image is None for p in made.parents):
                made.image = None
            if self.is_first_layer(made):
                made.z = part
            if made.parents and self.tracked(args[0] if args else None) and _same_memory(part, args[0]):
                made.views = self.nodes[args[0]]
            for parent in made.parents:
                parent.consumers += 1
            self.nodes[part] = made
            self.tape.append(made)

    # ---- the relevance pass
    def relevance(self, start: Tensor, logits: Tensor | None = None) -> Tensor:
        """Relevance at the input, raw and signed, (B, M, C, H, W), from the initial G `start` (B, M, K) at the logits.

        logits: what `start` belongs to; None = the last (B, K) output of the forward pass. Differentiable by weights, and by `start`.
        Raises NotCovered where an operation on the way has no rule, ValueError where shapes or the box do not fit.
        """
        end = self._end(start, logits)
        self.busy, grad = True, torch.is_grad_enabled()
        try:  # in inference mode no transpose can be found by autograd; outside of it this changes nothing
            with torch.inference_mode(False), torch.set_grad_enabled(grad), torch.autocast(start.device.type, enabled=False):
                return self._walk(end, start.transpose(0, 1)).transpose(0, 1)
        finally:
            self.busy = False

    def _end(self, start, logits):
        if self.root is None:
            raise NotCovered(f"no operation was seen: run the model inside `with LRP() as lrp:`{HIDDEN}")
        if start.ndim != 3 or len(start) != len(self.x):
            raise ValueError(f"start must be (batch, maps, classes) for images {tuple(self.x.shape)}, got {tuple(start.shape)}")
        shape = start.shape[::2]
        if logits is not None and logits.shape != shape:
            raise ValueError(f"start must be (batch, maps, classes) for logits {tuple(logits.shape)}, got {tuple(start.shape)}")
        if logits is not None and not self.tracked(logits):
            raise NotCovered(f"no operation that was seen leads from the image to these logits: are they of this forward pass?{HIDDEN}")
        end = self.nodes[logits] if logits is not None else next((n for n in reversed(self.tape) if n.shape == shape), None)
        if end is None:
            raise ValueError(f"start is {tuple(start.shape)}, but no output of the forward pass has shape {tuple(shape)} (batch, classes)")
        refused = dict.fromkeys(node.why for node in reversed(self._upstream(end)) if node.why)
        if refused:
            raise NotCovered("LRP does not cover this network:\n  " + "\n  ".join(refused))
        return end

    def _upstream(self, end: Node) -> list[Node]:
        """The operations that `end` depends on, last first."""
        reached = {end}
        for node in reversed(self.tape):
            if node in reached:
                reached.update(node.parents)
        return [node for node in reversed(self.tape) if node in reached]

    def _walk(self, end, g):
        G, C = {end: g.to(torch.promote_types(g.dtype, torch.float32))}, {}  # C: the maps c(w), c(w-) of z^B, below the first layer
        for node in self._upstream(end):
            for maps in (G, C):
                if node not in maps:
                    continue
                g = maps.pop(node)
                if self.is_first_layer(node) and maps is G:
                    low, high = (self._box_image(node.parents[0], k) for k in (0, 1))
                    a = node.z if node.y is None or node.consumers > 1 else node.y
                    _add(C, node.parents[0], z_box(node.layer, node.z, a, g, low, high, node.parents[0].shape, self.eps))
                else:
                    for parent, pulled in zip(node.parents, node.pull(g), strict=True):
                        _add(maps, parent, pulled)
        return self._at_the_pixels(G.get(self.root), C.get(self.root))

    def _at_the_pixels(self, g, c):
        x = self.x if self.x.dtype == torch.float64 else self.x.float()
        if self.box is not None and c is None:
            raise NotCovered("z^B needs a convolution or linear layer that reads the image; pass box=None to explain by LRP-eps alone")
        R = 0.0 if g is None else x * g
        if c is None:
            return R
        low, high = (self._box(k) for k in (0, 1))
        outside = 1e-3 * (high - low)
        if (x < low - outside).any() or (x > high + outside).any():
            raise ValueError(
                f"pixels from {x.min():.3g} to {x.max():.3g} leave the box {self.box}: give LRP the range of your images, "
                "e.g. box=((0 - mean) / std, (1 - mean) / std) where they are standardised"
            )
        a, b = c.chunk(2)
        return R + (x - low) * a - (high - low) * b

    def _box(self, k):
        """The box's lower (k = 0) or upper (k = 1) bound as an image of one pixel, (1, C or 1, 1, 1)."""
        return torch.as_tensor(self.box[k], dtype=self.x.dtype, device=self.x.device).view(1, -1, 1, 1)

    def _box_image(self, node, k):
        if node is self.root:
            return self._box(k).expand(1, *self.x.shape[1:])
        return node.image([self._box(k).expand(self.x.shape) if p is self.root else self._box_image(p, k) for p in node.parents])


# ----------------------------------------------------------------------------------------------------------------------------- in one call
def logits_of(output) -> Tensor:
    """The main logits (B, K) of what a classifier returns: a tensor, or a tuple or object that holds `logits` (GoogLeNet, Inception)."""
    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(f"a classifier must return logits (batch, classes), got {getattr(logits, 'shape', type(logits))}")
    return logits


def refuse_hidden(model: nn.Module) -> None:
    """Raise NotCovered where parts of `model` are scripted or compiled: their operations cannot be seen."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise NotCovered(f"{path or 'the model itself'}: scripted or compiled, so its operations cannot be seen: use the plain module")


def _run(model: nn.Module, x: Tensor, eps: float, box) -> tuple[LRP, Tensor]:
    """One forward pass without gradient that leaves buffers (running statistics) and random generators as they were."""
    refuse_hidden(model)
    training = any(module.training for module in model.modules())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()} if training else {}
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices, enabled=training), LRP(eps, box) as lrp:
        lrp._find_image([x])
        logits = logits_of(torch.func.functional_call(model, buffers, (x,)) if buffers else model(x))
    return lrp, logits


def explain(model: nn.Module, x: Tensor, target=None, eps: float = 1e-2, box: tuple | None = (0.0, 1.0)) -> Tensor:
    """Raw, signed relevance of the pixels x (B, C, H, W) for a class: (B, M, C, H, W), without gradient.

    target: None = winning class | int | LongTensor (B,) | "all" | "selective"; M = number of classes for "all", else 1. eps = 0, box = None equals
    input x gradient. The model is explained in the mode (train or eval) that it is in and left as it was.
    """
    with torch.inference_mode(False), torch.no_grad():
        lrp, logits = _run(model, x.detach().clone() if x.is_inference() else x.detach(), eps, box)
        return lrp.relevance(start_for(logits, target), logits)


def check(model: nn.Module, input_size: tuple = (3, 224, 224), box: tuple | None = (0.0, 1.0)) -> None:
    """Raise NotCovered, naming each module path and the reason, where LRP does not cover `model` on images of `input_size`; else return nothing."""
    parameter = next(model.parameters(), torch.empty(0))
    lrp, logits = _run(model, torch.zeros(2, *input_size, device=parameter.device, dtype=parameter.dtype), 1e-2, box)
    lrp.relevance(torch.zeros_like(logits)[:, None], logits)


# -------------------------------------------------------------------------------------------------------------------------------- helpers
class _Slot(int):
    """Stands for the k-th tracked tensor in the recorded arguments of an operation."""


def _map(value, change):
    if isinstance(value, (list, tuple)):
        return type(value)(_map(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _map(v, change) for k, v in value.items()}
    return change(value)


def _leaves(value):
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _leaves(v)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _by_position(args, kwargs):
    """torch.add(input=a, other=b) as torch.add(a, b)."""
    first, last = ([kwargs[name]] if name in kwargs else [] for name in ("input", "other"))
    return (*first, *args, *last), {name: value for name, value in kwargs.items() if name not in ("input", "other")}


def _usable(leaf):
    """A tensor made in inference mode cannot take part in autograd; its copy can."""
    return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf


def _add(maps, node, g):
    if g is not None:
        maps[node] = maps[node] + g if node in maps else g


def _in_place(name: str) -> bool:
    return name in ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__") or (name.endswith("_") and not name.endswith("__"))


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _place() -> str:
    """Path and class of the module whose forward is running, read off the call stack (only when something is refused)."""
    frame, modules = sys._getframe(1), []
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            modules.append(owner)
        frame = frame.f_back
    if not modules:
        return "outside any module"
    path = next((name for name, module in modules[-1].named_modules() if module is modules[0]), "")
    return f"{path or 'the model itself'} ({type(modules[0]).__name__})"
