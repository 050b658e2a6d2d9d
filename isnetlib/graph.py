"""The operations of one forward pass, as the graph that relevance is pulled back through.

`isnetlib.LRP` sends every torch operation of the model here. `Graph.run` does it, by its rule in `isnetlib.rules` where
it depends on the image, and remembers a `Node` for the tensor that came out. Operations in place are done out of place,
and the result stands in for the old tensor from then on. An operation without a rule is remembered as refused: harmless
unless relevance has to pass it. (`isnetlib.tracing`: tensors as keys, arguments of operations.)
"""

import torch
from torch import Tensor, nn

from isnetlib import activations, attention, normalisation
from isnetlib.functions import transpose
from isnetlib.nodes import Node
from isnetlib.rules import ASKS, CONSTANT, KEEPS_SIGN, LINEAR, REARRANGES, RULES, SAME_AS, SHAPED_LIKE
from isnetlib.tracing import (
    ByTensor,
    Slot,
    by_position,
    is_in_place,
    leaves_of,
    map_leaves,
    place,
    same_memory,
    tensors_in,
    usable,
)

# Importing them registers their rules; naming them makes them part of a run's sources (`isnetlib.provenance`).
RULE_MODULES = (activations, attention, normalisation)

HIDDEN = " (Scripted and compiled code, and functions of NumPy, hide their operations.)"


class NotCovered(NotImplementedError):
    """Relevance would have to pass an operation that has no rule; the message names its module and the reason."""


class Graph:
    """eps: of LRP-eps. z_box: whether z^B takes over at the layers that read the pixels. compile, dtype, gates,
    gate_gradient: see `isnetlib.LRP`. rules: in place of those of `isnetlib.rules` (see `isnetlib.ablations`). Rules
    get the graph as their first argument.
    """

    def __init__(
        self,
        eps: float,
        z_box: bool,
        compile=False,
        dtype=None,
        gates="constant",
        gate_gradient=True,
        rules: dict | None = None,
    ):
        self.eps, self.z_box, self.compile, self.dtype, self.gates = eps, z_box, compile, dtype, gates
        # constants: node -> its output with the biases detached, where they are.
        self.rules, self.constants = RULES | rules if rules else RULES, {}
        # What a factor held constant goes through: the heatmap loss may train it, or not.
        self.held = _same if gate_gradient else Tensor.detach
        # The image batch, its node, the name of the operation at hand, the nodes in order.
        self.x, self.root, self.name, self.tape = None, None, "", []
        self.spoiled = False  # whether any node is
        # Tensor -> its node; overwritten tensor -> what stands for it; tensors that do not depend on the image.
        self.nodes, self.replaced, self.seen = ByTensor(), ByTensor(), ByTensor()

    # ---- what the rules ask
    def tracked(self, value) -> bool:
        """Whether `value` is a tensor that depends on the image."""
        return isinstance(value, Tensor) and value in self.nodes

    def node(self, value: Tensor) -> Node:
        """The operation that made `value`."""
        return self.nodes[value]

    def is_first_layer(self, node: Node) -> bool:
        """Whether z^B applies at this node: a linear layer that reads the pixels."""
        return self.z_box and node.layer is not None and node.parents[0].image is not None

    def eps_after(self, node: Node) -> float:
        """eps of an activation that reads `node`: 0 where z^B, which has its own, is all that follows on the way down.

        Max pools and rearrangements in between only move the first layer's outputs.
        """
        while not self.is_first_layer(node):
            if len(node.parents) != 1 or node.name not in REARRANGES | {"max_pool"}:
                return self.eps
            node = node.parents[0]
        return 0.0

    def overwrite(self, old: Tensor, new: Tensor):
        """An operation in place on `old`: it was done out of place, and `new` stands for `old` from now on."""
        self.replaced[old] = new
        if old in self.nodes and not same_memory(old, new):
            self.nodes[old].memory().spoiled = self.spoiled = True

    def refuse(self, why: str):
        """(None, Node) of an operation without a rule: harmless unless relevance has to pass through it."""
        return None, Node(self.name, [], torch.Size(), why=f"{place()}: {self.name}: {why}")

    def linear(self, function, *args, output=None, keeps_sign=False, **kwargs):
        """(output, Node or list of Nodes) of a linear operation without weights: its transpose comes from autograd."""
        inputs = tensors_in((args, kwargs))
        if any(t.grad_fn is not None and t not in self.nodes and t not in self.seen for t in inputs):
            return self.refuse(f"one of its inputs was made out of sight and may depend on the image{HIDDEN}")
        output = function(*args, **kwargs) if output is None else output
        tensors = [t for t in inputs if t in self.nodes]
        parents = [self.node(t) for t in tensors]
        slots = {id(t): Slot(k) for k, t in reversed(list(enumerate(tensors)))}
        args, kwargs = map_leaves((args, kwargs), lambda leaf: slots.get(id(leaf), leaf))

        def node_of(part, k):
            def replay(images):
                put = lambda leaf: images[leaf] if isinstance(leaf, Slot) else usable(leaf)  # noqa: E731
                a, kw = map_leaves((args, kwargs), put)
                result = function(*a, **kw)
                return result if k is None else result[k]

            shapes = [p.shape for p in parents]
            image = replay if keeps_sign else None
            return Node(self.name, parents, part.shape, lambda g: transpose(replay, shapes, g), image=image)

        return output, (
            node_of(output, None) if isinstance(output, Tensor) else [node_of(part, k) for k, part in enumerate(output)]
        )

    def gate(self, z: Tensor, y: Tensor, pull, rest: float, why: str) -> Node:
        """Node of a gate y = f(z) with f(0) = rest: refused as a value path, a factor in `product`.

        pull: G at y - rest -> [G at z], used where gates are "shared".
        """
        node = self.refuse(why)[1]
        node.parents, node.shape, node.gate, node.rest = [self.node(z)], y.shape, True, rest
        node.pull = pull if self.gates == "shared" else None
        return node

    def product(self, f, a: Tensor, b: Tensor, to_a, to_b):
        """(output, Node) of a bilinear f(a, b) of two tensors of the image; to_a(G, b), to_b(G, a): its transposes.

        One of them must be a gate g. Held constant, it leaves a linear operation on the other, x. With gates="shared",

            f(x, g) = f(x, g0) + f(x, g - g0),      g0: the gate's value at rest,

        and the first term is x's, the second is shared half and half. Products on the way to a gate, as of queries and
        keys, are then shared half and half, too.
        """
        y, one, two, hold = f(a, b), self.node(a), self.node(b), self.held
        held = lambda t, g: hold(t).to(g.dtype)  # noqa: E731 - under autocast activations are coarser than G
        if one.gate == two.gate:
            node = self.refuse(
                "both factors depend on the image and not one of them alone is a gate (sigmoid, softmax)"
            )[1]
            node.parents, node.shape, node.gate = [one, two], y.shape, one.gate
            if self.gates == "shared":
                node.pull = lambda g: [_fit(to_a(g, held(b, g)), a.shape) / 2, _fit(to_b(g, held(a, g)), b.shape) / 2]
            return y, node
        if two.gate:
            x, factor, gate, to_x, to_gate = a, b, two, to_a, to_b
        else:
            x, factor, gate, to_x, to_gate = b, a, one, to_b, to_a
        if self.gates != "shared":
            return y, Node(self.name, [self.node(x)], y.shape, lambda g: [_fit(to_x(g, held(factor, g)), x.shape)])
        rest = gate.rest
        if rest is None:
            return self.refuse('gates="shared" needs a gate that nothing but rearrangements lie behind')

        def pull(g):
            to_value = _fit(to_x(g, (held(factor, g) + rest) / 2), x.shape)
            return [to_value, _fit(to_gate(g, held(x, g)), factor.shape) / 2]

        return y, Node(self.name, [self.node(x), gate], y.shape, pull, factor=gate)

    # ---- the forward pass
    def run(self, func, args, kwargs):
        """Do one operation of the forward pass and remember it where it depends on the image; returns its output."""
        name = getattr(func, "__name__", "").strip("_")
        if name == "get":  # an attribute: x.mT
            name = func.__self__.__name__
        if name in ASKS:
            return func(*args, **kwargs)
        inputs = tensors_in((args, kwargs) if kwargs else args)
        if self.replaced and self.replaced.of(inputs):
            args, kwargs = map_leaves((args, kwargs), self._current)
            inputs = tensors_in((args, kwargs))
        if self.x is None:
            self.find_image([t for t in inputs if t.is_floating_point()])
        inputs = inputs[:1] if name in SHAPED_LIKE else inputs
        inputs = self.nodes.of(inputs)
        if not inputs or name in CONSTANT:
            output = func(*args, **kwargs)
            for t in tensors_in((output,)):
                if t.grad_fn is not None:
                    self.seen[t] = True
            return output
        self.name = SAME_AS.get(name, name)
        args, kwargs = by_position(args, kwargs)
        return self._record(func, args, kwargs, spoiled=self.spoiled and any(n.memory().spoiled for n in inputs))

    def _current(self, leaf):
        while leaf in self.replaced:
            leaf = self.replaced[leaf]
        return leaf

    def find_image(self, inputs):
        """The first 4-D tensor that is no Parameter is the image batch."""
        self.x = next((t for t in inputs if t.ndim == 4 and not isinstance(t, nn.Parameter)), None)
        if self.x is not None:
            self.root = self.nodes[self.x] = Node("image", [], self.x.shape, image=lambda images: images[0])

    def _record(self, func, args, kwargs, spoiled):
        in_place = is_in_place(func.__name__)
        if spoiled:  # its values would be wrong, not only its relevance
            why = "its input shares memory with a tensor overwritten in place: use the result of that operation instead"
            raise NotCovered(self.refuse(why)[1].why)
        if self.name in self.rules:
            output, node = self.rules[self.name](self, *args, **kwargs)
        elif self.name in LINEAR:
            out_of_place = getattr(torch.Tensor, self.name) if in_place else func
            # bicubic weights are partly negative
            keeps_sign = self.name in KEEPS_SIGN and "bicubic" not in leaves_of((args, kwargs))
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
        parts = list(output) if isinstance(node, list) else tensors_in((output,))
        nodes = node if isinstance(node, list) else [node] * len(parts)
        for part, made in zip(parts, nodes, strict=True):
            made = (
                made or self.refuse("this operation has no relevance rule (see isnetlib.rules for how to add one)")[1]
            )
            known = self.nodes.get(part)
            if not part.is_floating_point() or (known is not None and (not made.why or known is made)):
                continue  # a mask, an index, the very tensor that went in (dropout in eval mode), a composite's
            if made.why and not made.parents:
                made.parents = self.nodes.of(tensors_in(args))
            if made.image is not None and any(p.image is None for p in made.parents):
                made.image = None
            if self.is_first_layer(made):
                made.z = part
            if not made.why and made.parents and all(p.gate for p in made.parents):
                made.gate, made.rest = True, _rest(made)
            before = self.nodes.get(args[0]) if args and made.parents else None
            if before is not None and same_memory(part, args[0]):
                made.views = before
            for parent in made.parents:
                parent.consumers += 1
            self.nodes[part] = made
            self.tape.append(made)

    def upstream(self, end: Node, by_factors: bool = True) -> list[Node]:
        """The operations that `end` depends on, last first; by_factors=False: not only through factors of products."""
        reached = {end}
        for node in reversed(self.tape):
            if node in reached:
                reached.update(p for p in node.parents if by_factors or p is not node.factor)
        return [node for node in reversed(self.tape) if node in reached]

    def refused(self, end: Node) -> list[str]:
        """Why relevance cannot pass from `end` to the image, last operation first; empty where it can."""
        values = set(self.upstream(end, by_factors=False))
        nodes = (n for n in self.upstream(end) if n.why and (n.pull is None or n in values))
        return list(dict.fromkeys(node.why for node in nodes))


def _rest(node: Node) -> float | None:
    """The gates' value at rest, where `node` only rearranges them or scales one that is then 0."""
    (rest, *others) = {p.rest for p in node.parents}
    kept = node.name in REARRANGES or (rest == 0 and node.name in ("dropout", "mul"))
    return rest if kept and not others else None


def _same(t: Tensor) -> Tensor:
    return t


def _fit(g: Tensor, shape: torch.Size) -> Tensor:
    """G (M, ...) summed over the dimensions that broadcasting added to `shape`."""
    return g.sum_to_size(len(g), *[1] * (g.ndim - 1 - len(shape)), *shape).reshape(len(g), *shape)
