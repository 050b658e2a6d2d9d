"""The operations of one forward pass, as the graph that relevance is pulled back through.

`isnetlib.LRP` sends every torch operation of the model here. `Graph.run` does it, by its rule in `rules.py` where it
depends on the image, and remembers a `Node` for what came out. One in place is done out of place, and the result stands
in for the old tensor. One without a rule is remembered as refused: harmless unless relevance has to pass it.
"""

from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

from isnetlib.method import rules, tracing
from isnetlib.method.kernels import transpose
from isnetlib.method.rules import Node
from isnetlib.method.tracing import tensors_in

HIDDEN = " (Scripted and compiled code, and functions of NumPy, hide their operations.)"


class NotCovered(NotImplementedError):
    """Relevance would have to pass an operation that has no rule; the message names its module and the reason."""


class Graph:
    """z_box: whether there is z^B. dtype: of convolutions' derivatives, or None. ablated: rules in place of others."""

    def __init__(self, eps: float, z_box: bool, gates: str, dtype, ablated: dict, image: Tensor | None = None):
        self.eps, self.z_box, self.gates, self.dtype, self.rules = eps, z_box, gates, dtype, rules.RULES | ablated
        self.x, self.root, self.given, self.tape = None, None, image, []  # the images, their node; the nodes in order
        self.name, self.function, self.in_place = "", None, False  # of the operation at hand; function: out of place
        # Tensor -> its node; overwritten tensor -> what stands for it; tensors that were made of constants in sight.
        self.nodes, self.replaced, self.seen = (WeakTensorKeyDictionary() for _ in range(3))
        self.strangers, self.grad = set(), torch.is_grad_enabled()  # ids of tensors that came from nowhere
        self.constants = {}  # node -> its output with the biases detached, where they are (an ablation)

    # ---- what the rules ask: does a tensor depend on the image, what made it, where is it on the way
    def tracked(self, value) -> bool:
        return value in self.nodes

    def node(self, value: Tensor) -> Node:
        return self.nodes.get(value)

    def nodes_of(self, values) -> list[Node]:
        return [node for value in values if (node := self.node(value))]

    def is_first_layer(self, node: Node) -> bool:
        """Whether z^B applies at this node: a linear layer that reads the pixels."""
        return self.z_box and node.layer is not None and node.parents[0].image is not None

    def eps_after(self, node: Node) -> float:
        """eps of an activation that reads `node`: 0 where only max pools and rearrangements part it from z^B's eps."""
        while not self.is_first_layer(node):
            if len(node.parents) != 1 or node.name not in rules.REARRANGES | {"max_pool"}:
                return self.eps
            node = node.parents[0]
        return 0.0

    def refuse(self, why: str, parents=(), pull=None, **known):
        """(None, Node) of an operation that relevance must not pass, but on its way to shared gates, by `pull`."""
        why, pull = f"{tracing.place()}: {self.name}: {why}", pull if self.gates == "shared" else None
        return None, Node(self.name, list(parents), pull, why=why, **known)

    def linear(self, function, *args, output=None, keeps_sign=False, **kwargs):
        """(output, Node or list of Nodes) of a linear operation without weights: its transpose comes from autograd."""
        output = function(*args, **kwargs) if output is None else output
        leaves, form = tree_flatten((args, kwargs))
        places = {k: self.node(leaf) for k, leaf in enumerate(leaves) if self.tracked(leaf)}
        parents, shapes = list(places.values()), [parent.shape for parent in places.values()]
        leaves = [None if k in places else leaf for k, leaf in enumerate(leaves)]  # activations are not kept

        def replay(part, images):
            given = dict(zip(places, images, strict=True))
            full = [given.get(k, leaf) for k, leaf in enumerate(leaves)]
            # a tensor made in inference mode cannot take part in autograd; its copy can
            full = [t.clone() if isinstance(t, Tensor) and t.is_inference() else t for t in full]
            a, options = tree_unflatten(full, form)
            result = function(*a, **options)
            return result if part is None else result[part]

        def made(part=None):
            again = partial(replay, part)
            return Node(self.name, parents, partial(transpose, again, shapes), image=again if keeps_sign else None)

        return output, made() if isinstance(output, Tensor) else [made(k) for k in range(len(output))]

    def product(self, f, a: Tensor, b: Tensor, to_a, to_b):
        """(output, Node) of a bilinear f(a, b) of two tensors of the image; to_a(G, b), to_b(G, a): its transposes.

        One of them must be a gate g. Held constant, it leaves a linear operation on the other, x. With gates="shared",

            f(x, g) = f(x, g0) + f(x, g - g0),      g0: the gate's value at rest,

        and the first term is x's, the second is shared half and half. Products on the way to a gate, as of queries and
        keys, are then shared half and half, too.
        """
        y, one, two = f(a, b), self.node(a), self.node(b)

        def back(to, g, other, x):
            """G at x, summed where x was broadcast. Under autocast activations are coarser than G."""
            g = to(g, other.to(g.dtype))
            return g.sum_to_size(len(g), *[1] * (g.ndim - 1 - x.ndim), *x.shape).reshape(len(g), *x.shape)

        if one.gate == two.gate:
            pull = lambda g: [back(to_a, g, b, a) / 2, back(to_b, g, a, b) / 2]  # noqa: E731
            why = "both factors depend on the image and not one of them alone is a gate (sigmoid, softmax)"
            return y, self.refuse(why, [one, two], pull, gate=one.gate)[1]
        if one.gate:  # from here on b is the gate
            a, b, one, two, to_a, to_b = b, a, two, one, to_b, to_a
        if self.gates == "constant":
            return y, Node(self.name, [one], lambda g: [back(to_a, g, b, a)])
        if (rest := two.rest) is None:
            return self.refuse('gates="shared" needs a gate that nothing but rearrangements lie behind')
        pull = lambda g: [back(to_a, g, (b.to(g.dtype) + rest) / 2, a), back(to_b, g, a, b) / 2]  # noqa: E731
        return y, Node(self.name, [one, two], pull, factor=two)

    # ---- the forward pass
    def run(self, func, /, *args, **kwargs):
        """The output of one operation of the forward pass, which is remembered where it depends on the image."""
        mode = nullcontext()
        if torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:  # inside torch.utils.checkpoint:
            # activations are held anyway; computed again they would not be the same operations
            mode = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
        elif self.grad and not torch.is_grad_enabled() and tracing.callers("ctx", FunctionCtx):
            mode = torch.enable_grad()  # in an autograd.Function, whose backward pass knows nothing of relevance
        with mode:
            return self._run(func, args, kwargs)

    def _run(self, func, args, kwargs):
        name = getattr(func, "__name__", "").strip("_")
        name = func.__self__.__name__ if name == "get" else name  # an attribute: x.mT
        if name in rules.ASKS:
            return func(*args, **kwargs)
        self.name = rules.SAME_AS.get(name, name)
        inputs = tensors_in((args, kwargs))
        if self.replaced and any(t in self.replaced for t in inputs):
            args, kwargs = tree_map(self._current, (args, kwargs))
            inputs = tensors_in((args, kwargs))
        if self.x is None:
            images = [t for t in inputs if t.ndim == 4 and t.is_floating_point() and not isinstance(t, nn.Parameter)]
            for x in images[:1] if self.given is None else [self.given]:
                self.x, self.root = x, Node("image", [], shape=x.shape, image=lambda images: images[0])
                self.nodes[x] = self.root
        inputs = inputs[:1] if name in rules.SHAPED_LIKE or name == "to" else inputs
        inputs = [node for t in inputs if (node := self.node(t) or self._meet(t))]
        if not inputs or name in rules.CONSTANT:
            output = func(*args, **kwargs)
            for t in tensors_in((output,)):
                self.seen[t] = True
            return output
        if any(n.memory().spoiled for n in inputs):  # values would be wrong, not only relevance
            why = "its input shares memory with a tensor overwritten in place: use the result of that operation instead"
            raise NotCovered(self.refuse(why)[1].why)
        return self._record(func, *tracing.by_position(args, kwargs), len(inputs))

    def _meet(self, t) -> Node | None:
        """A tensor without a node: a constant as far as is known, or, where its history leads to the image, refused."""
        if isinstance(t, nn.Parameter) or t in self.seen:
            return None
        if t.grad_fn is None or not tracing.leads_to(t.grad_fn, {node.history for node in self.tape}, self.x):
            if t.is_floating_point() or t.is_complex():
                self.strangers.add(id(t))
            self.seen[t] = True
            return None
        why = f"an input was made out of sight and may depend on the image{HIDDEN}"
        self.nodes[t] = node = self.refuse(why, [self.root], shape=t.shape, history=t.grad_fn)[1]
        self.tape.append(node)
        return node

    def _current(self, leaf):
        while leaf in self.replaced:
            leaf = self.replaced[leaf]
        return leaf

    def _record(self, func, args, kwargs, count):
        output, node, by_name = None, None, tracing.is_in_place(func.__name__)
        in_place = self.in_place = kwargs.pop("inplace", False) or by_name
        self.function = (getattr(F, self.name, None) or getattr(torch, self.name, None)) if by_name else func
        alone = count == 1 and args and self.tracked(args[0])
        if self.name in self.rules and not alone and self.name not in rules.SEVERAL:
            output, node = self.refuse("an argument other than the first depends on the image")
        elif func is torch.batch_norm:
            output, node = self.refuse("call it by torch.nn.functional: the order of arguments is another one here")
        elif self.name in self.rules:
            output, node = self.rules[self.name](self, *args, **kwargs)
        if output is None:
            first = [t.clone() if by_name else t for t in args[:1]]
            output = func(*first, *args[1:], **kwargs)
            output = first[0] if by_name else output
        self._remember(output, node, args)
        if in_place and output is not args[0]:
            self.replaced[args[0]] = output
            if self.tracked(args[0]) and not tracing.same_memory(args[0], output):
                self.node(args[0]).memory().spoiled = True
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
            if made.why:
                made.parents = made.parents or self.nodes_of(tensors_in(args))
            elif all(p.gate for p in made.parents):
                made.gate, made.rest = True, _rest(made)
            if any(p.image is None for p in made.parents):
                made.image = None
            if self.is_first_layer(made):
                made.z = part
            if args and self.tracked(args[0]) and tracing.same_memory(part, args[0]):
                made.views = self.node(args[0])
            made.shape, made.history = part.shape, part.grad_fn
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
