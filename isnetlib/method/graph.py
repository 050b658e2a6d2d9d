"""The operations of one forward pass, as the graph that relevance is pulled back through.

`isnetlib.LRP` sends every torch operation of the model here. `Graph.run` does it, by its rule in
`isnetlib.method.rules` where it depends on the image, and remembers a `Node` for the tensor that came out. Operations
in place are done out of place, and the result stands in for the old tensor from then on. An operation without a rule is
remembered as refused: harmless unless relevance has to pass it.
"""

import torch
from torch import Tensor, nn

from isnetlib.method import rules, tracing
from isnetlib.method.kernels import transpose
from isnetlib.method.rules import Node
from isnetlib.method.tracing import ByTensor, Slot, map_leaves, tensors_in

HIDDEN = " (Scripted and compiled code, and functions of NumPy, hide their operations.)"


class NotCovered(NotImplementedError):
    """Relevance would have to pass an operation that has no rule; the message names its module and the reason."""


class Graph:
    """eps, gates: of `isnetlib.LRP`. z_box: whether z^B takes over at the layers that read the pixels. dtype: of the
    arithmetic of convolutions' derivatives, or None. ablated: rules in place of those of `isnetlib.method.rules`, which
    get the graph as their first argument.
    """

    def __init__(
        self, eps: float, z_box: bool, gates: str, dtype: torch.dtype | None, ablated: dict, image: Tensor | None = None
    ):
        self.eps, self.z_box, self.gates, self.dtype, self.rules = eps, z_box, gates, dtype, rules.RULES | ablated
        # The image batch, its node, the name of the operation at hand, the nodes in order, whether any is spoiled.
        self.x, self.root, self.name, self.tape, self.spoiled = None, None, "", [], False
        # Tensor -> its node; overwritten tensor -> what stands for it; tensors that were made of constants in sight.
        self.nodes, self.replaced, self.seen = ByTensor(), ByTensor(), ByTensor()
        self.strangers, self.grad = set(), torch.is_grad_enabled()  # ids of tensors that came from nowhere
        self.constants = {}  # node -> its output with the biases detached, where they are (an ablation)
        if image is not None:
            self._set_image(image)

    # ---- what the rules ask
    def tracked(self, value) -> bool:
        """Whether `value` is a tensor that depends on the image."""
        return isinstance(value, Tensor) and value in self.nodes

    def node(self, value: Tensor) -> Node:
        """The operation that made `value`, which depends on the image."""
        return self.nodes.get(value)

    def is_first_layer(self, node: Node) -> bool:
        """Whether z^B applies at this node: a linear layer that reads the pixels."""
        return self.z_box and node.layer is not None and node.parents[0].image is not None

    def eps_after(self, node: Node) -> float:
        """eps of an activation that reads `node`: 0 where z^B, which has its own, is all that follows on the way down.

        Max pools and rearrangements in between only move the first layer's outputs.
        """
        while not self.is_first_layer(node):
            if len(node.parents) != 1 or node.name not in rules.REARRANGES | {"max_pool"}:
                return self.eps
            node = node.parents[0]
        return 0.0

    def overwrite(self, old: Tensor, new: Tensor):
        """An operation in place on `old`: it was done out of place, and `new` stands for `old` from now on."""
        self.replaced[old] = new
        if old in self.nodes and not tracing.same_memory(old, new):
            self.node(old).memory().spoiled = self.spoiled = True

    def call(self, func, *args, **kwargs):
        """One of the operations that make up the one at hand."""
        return self.run(func, args, kwargs)

    def refuse(self, why: str):
        """(None, Node) of an operation without a rule: harmless unless relevance has to pass through it."""
        return None, Node(self.name, [], torch.Size(), why=f"{tracing.place()}: {self.name}: {why}")

    def linear(self, function, *args, output=None, keeps_sign=False, **kwargs):
        """(output, Node or list of Nodes) of a linear operation without weights: its transpose comes from autograd."""
        inputs = tensors_in((args, kwargs))
        output = function(*args, **kwargs) if output is None else output
        tensors = [t for t in inputs if t in self.nodes]
        parents = [self.node(t) for t in tensors]
        slots = {id(t): Slot(k) for k, t in reversed(list(enumerate(tensors)))}
        args, kwargs = map_leaves((args, kwargs), lambda leaf: slots.get(id(leaf), leaf))

        def node_of(part, k=None):
            def replay(images):
                put = lambda leaf: images[leaf] if isinstance(leaf, Slot) else tracing.usable(leaf)  # noqa: E731
                a, kw = map_leaves((args, kwargs), put)
                result = function(*a, **kw)
                return result if k is None else result[k]

            shapes = [p.shape for p in parents]
            pull = lambda g: transpose(replay, shapes, g)  # noqa: E731
            return Node(self.name, parents, part.shape, pull, image=replay if keeps_sign else None)

        if isinstance(output, Tensor):
            return output, node_of(output)
        return output, [node_of(part, k) for k, part in enumerate(output)]

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
        y, one, two, shared = f(a, b), self.node(a), self.node(b), self.gates == "shared"

        def to(transposed, g, other, shape):  # under autocast activations are coarser than G
            return _fit(transposed(g, other.to(g.dtype)), shape)

        if one.gate == two.gate:
            node = self.refuse(
                "both factors depend on the image and not one of them alone is a gate (sigmoid, softmax)"
            )[1]
            node.parents, node.shape, node.gate = [one, two], y.shape, one.gate
            if shared:
                node.pull = lambda g: [to(to_a, g, b, a.shape) / 2, to(to_b, g, a, b.shape) / 2]
            return y, node
        x, g_, value, gate, to_x, to_gate = (a, b, one, two, to_a, to_b) if two.gate else (b, a, two, one, to_b, to_a)
        if not shared:
            return y, Node(self.name, [value], y.shape, lambda g: [to(to_x, g, g_, x.shape)])
        rest = gate.rest
        if rest is None:
            return self.refuse('gates="shared" needs a gate that nothing but rearrangements lie behind')

        def pull(g):
            to_value = _fit(to_x(g, (g_.to(g.dtype) + rest) / 2), x.shape)
            return [to_value, to(to_gate, g, x, g_.shape) / 2]

        return y, Node(self.name, [value, gate], y.shape, pull, factor=gate)

    # ---- the forward pass
    def _set_image(self, x):
        self.x, self.root = x, Node("image", [], x.shape, image=lambda images: images[0])
        self.nodes[x] = self.root

    def run(self, func, args, kwargs):
        """Do one operation of the forward pass and remember it where it depends on the image; returns its output."""
        if (
            tracing.checkpointing()
        ):  # the activations are held anyway, and computed again they would not be the same operations
            with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                return self._run(func, args, kwargs)
        if self.grad and not torch.is_grad_enabled() and tracing.inside_a_function():
            with torch.enable_grad():  # its own backward pass knows nothing of relevance
                return self._run(func, args, kwargs)
        return self._run(func, args, kwargs)

    def _run(self, func, args, kwargs):
        name = getattr(func, "__name__", "").strip("_")
        if name == "get":  # an attribute: x.mT
            name = func.__self__.__name__
        if name in rules.ASKS:
            return func(*args, **kwargs)
        self.name = rules.SAME_AS.get(name, name)
        inputs = tensors_in((args, kwargs) if kwargs else args)
        if self.replaced and self.replaced.of(inputs):
            args, kwargs = map_leaves((args, kwargs), self._current)
            inputs = tensors_in((args, kwargs))
        if self.x is None:  # the first 4-D tensor that is no Parameter
            for t in inputs:
                if t.ndim == 4 and t.is_floating_point() and not isinstance(t, nn.Parameter):
                    self._set_image(t)
                    break
        inputs = inputs[:1] if name in rules.SHAPED_LIKE or name == "to" else inputs
        for t in inputs:
            if not (isinstance(t, nn.Parameter) or t in self.nodes or t in self.seen):
                self._meet(t)
        inputs = self.nodes.of(inputs)
        if not inputs or name in rules.CONSTANT:
            output = func(*args, **kwargs)
            for t in tensors_in((output,)):
                self.seen[t] = True
            return output
        if self.spoiled and any(n.memory().spoiled for n in inputs):  # values would be wrong, not only relevance
            why = "its input shares memory with a tensor overwritten in place: use the result of that operation instead"
            raise NotCovered(self.refuse(why)[1].why)
        return self._record(func, *tracing.by_position(args, kwargs), len(inputs))

    def _meet(self, t):
        """A tensor from nowhere: a constant as far as is known, or, where its history leads to the image, refused."""
        if t.grad_fn is None or not tracing.leads_to(t.grad_fn, {node.history for node in self.tape}, self.x):
            self.strangers.update([id(t)] if t.is_floating_point() or t.is_complex() else ())
            self.seen[t] = True
            return
        self.nodes[t] = node = self.refuse(f"an input was made out of sight and may depend on the image{HIDDEN}")[1]
        node.parents, node.shape, node.history = [self.root], t.shape, t.grad_fn
        self.tape.append(node)

    def _current(self, leaf):
        while leaf in self.replaced:
            leaf = self.replaced.get(leaf)
        return leaf

    def _record(self, func, args, kwargs, count):
        in_place, output, node = tracing.is_in_place(func.__name__), None, None
        alone = count == 1 and args and self.tracked(args[0])
        if self.name in self.rules and not alone and self.name not in rules.SEVERAL:
            output, node = self.refuse("an argument other than the first depends on the image")
        elif func in (torch.batch_norm, torch.instance_norm):
            output, node = self.refuse("call it by torch.nn.functional: the order of arguments is another one here")
        elif self.name in self.rules:
            output, node = self.rules[self.name](self, *args, **kwargs)
        elif self.name in rules.LINEAR:
            out_of_place = getattr(Tensor, self.name) if in_place else func
            output, node = self.linear(out_of_place, *args, keeps_sign=self.name in rules.KEEPS_SIGN, **kwargs)
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
            if not (part.is_floating_point() or part.is_complex()):
                continue  # a mask, an index
            if made is None:
                made = self.refuse("this operation has no relevance rule (isnetlib.method.rules: how to add one)")[1]
            known = self.nodes.get(part)
            if known is not None and (not made.why or known is made):
                continue  # the very tensor that went in (dropout in eval mode), a composite's
            if made.why and not made.parents:
                made.parents = self.nodes.of(tensors_in(args))
            if made.image is not None and any(p.image is None for p in made.parents):
                made.image = None
            if self.is_first_layer(made):
                made.z = part
            if not made.why and made.parents and all(p.gate for p in made.parents):
                made.gate, made.rest = True, _rest(made)
            before = self.nodes.get(args[0]) if args and made.parents else None
            if before is not None and tracing.same_memory(part, args[0]):
                made.views = before
            made.history = part.grad_fn
            for parent in made.parents:
                parent.consumers += 1
            self.nodes[part] = made
            self.tape.append(made)

    # ---- the way back
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
    kept = node.name in rules.REARRANGES or (rest == 0 and node.name in ("dropout", "mul"))
    return rest if kept and not others else None


def _fit(g: Tensor, shape: torch.Size) -> Tensor:
    """G (M, ...) summed over the dimensions that broadcasting added to `shape`."""
    return g.sum_to_size(len(g), *[1] * (g.ndim - 1 - len(shape)), *shape).reshape(len(g), *shape)
