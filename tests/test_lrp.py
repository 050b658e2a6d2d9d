"""The relevance pass on whole networks: what it computes, what it refuses, and that it leaves no trace."""

import gc
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import twins
from small_nets import assert_slope, randomised, relevance
from torch import nn
from twins import unlike

import isnetlib
from isnetlib import LRP, NotCovered, check, explain
from isnetlib.method import kernels


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(3, 2, 1))
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.grow, self.late = nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(8)
        self.drop, self.hidden, self.last = nn.Dropout(dropout), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.norm(self.conv(x)) + x)
        x = torch.cat([x, F.relu6(self.grow(x))], 1) * x.new_full((8, 1, 1), 0.7)
        x = F.adaptive_avg_pool2d(F.relu(self.late(x), inplace=True), 1).flatten(1)
        return self.last(F.leaky_relu(self.hidden(self.drop(x))))


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.rand(4, 3, 12, 12, dtype=torch.float64)


@pytest.fixture
def net(x):
    return randomised(Net())


def mask_of(x):
    mask = torch.zeros_like(x[:, :1])
    mask[:, :, 2:8, 3:9] = 1
    return mask


PARAMETERS = [name for name, _ in Net().named_parameters() if name != "last.bias"]


@pytest.mark.parametrize("target", [None, "all", "selective"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_of_the_heatmap_loss(net, x, name, target, monkeypatch):
    parameter = net.get_parameter(name)
    if target == "all":  # the first layer's derivative an image at a time, as of large images
        monkeypatch.setattr(kernels, "_few_images", partial(kernels._few_images, numbers=1))

    def loss():
        return isnetlib.heatmap_loss(relevance(net, x, target), mask_of(x), range=(0.05, 0.2)).total

    assert torch.autograd.grad(loss(), parameter)[0].norm() > 1e-6
    assert_slope(loss, [parameter], rel=1e-5, absolute=1e-7)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_in_train_mode(net, x, name):
    """Activations follow their batch statistics; the relevance pass holds those statistics where they were."""
    statistics, parameter = {}, net.train().get_parameter(name)

    def batch_norm(z, mean, var, weight, bias, training, momentum, eps):
        """The value of BatchNorm with live statistics, the gradient of one with the statistics of the first call."""
        dims = (0, 2, 3)
        live = twins.real["batch_norm"](z, None, None, weight, bias, True, 0.0, eps)
        sigma = statistics.setdefault(id(weight), (z.detach().var(dims, correction=0) + eps).rsqrt().view(1, -1, 1, 1))
        frozen = z * sigma * weight.view(1, -1, 1, 1)
        return frozen + (live - frozen).detach()

    def twin():
        held = twins.mock.patch.object(F, "batch_norm", batch_norm)
        with twins.modified_gradient(1e-2), held, torch.enable_grad():
            inputs = x.clone().requires_grad_()
            gradient = torch.autograd.grad(net(inputs)[:, 1].sum(), inputs)[0]
        return isnetlib.heatmap_loss((x * gradient)[:, None], mask_of(x), range=(0.05, 0.2)).total

    loss = isnetlib.heatmap_loss(relevance(net, x, 1, box=None), mask_of(x), range=(0.05, 0.2)).total
    values = [loss]  # ours once, for its derivative; then the twin's, with the statistics of its first call

    def value():
        return values.pop() if values else twin()

    assert loss.item() == pytest.approx(twin().item(), rel=1e-9)
    assert_slope(value, [parameter], rel=1e-5, absolute=1e-6)  # an ulp of the loss, 7e-15, over steps of 1e-7


def test_stacked_maps_are_the_maps_one_by_one(net, x):
    R = explain(net, x, "all")
    assert R.shape == (4, 3, 3, 12, 12)
    assert unlike(R, torch.cat([explain(net, x, c) for c in range(3)], 1)) < 1e-12
    assert unlike(explain(net, x, torch.tensor([0, 2, 1, 1]))[:, 0], R[range(4), [0, 2, 1, 1]]) < 1e-12
    assert torch.equal(explain(net, x), explain(net, x, net(x).argmax(1)))


class Gate(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


class WithGate(nn.Module):
    def __init__(self, used):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(Gate(), nn.LocalResponseNorm(2)))
        self.last, self.used = nn.Linear(4, 2), used

    def forward(self, x):
        z = self.body[1](self.body[0](x))
        side = self.body[2](z[..., :4])
        return self.last((side if self.used else z).mean((2, 3)))


def test_every_layer_that_is_not_covered_is_named():
    both = "body.2.0 \\(Gate\\): mul: both factors depend.*body.2.1 \\(LocalResponseNorm\\): local_response_norm: "
    for use in (lambda model: check(model, (3, 8, 8)), lambda model: explain(model, torch.rand(1, 3, 8, 8))):
        with pytest.raises(NotCovered, match=f"(?s){both}"):
            use(WithGate(used=True))
        use(WithGate(used=False))  # a branch that does not lead to the logits does no harm


def test_a_rule_can_be_added_for_an_operation_of_ones_own():
    class Half(nn.Module):
        def forward(self, x):
            return x.tril()

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Half(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(NotCovered, match="2 \\(Half\\): tril: this operation has no relevance rule"):
        check(model, (3, 8, 8))
    isnetlib.rule("tril")(lambda lrp, x: lrp.linear(torch.tril, x))
    try:
        check(model, (3, 8, 8))
        x = torch.rand(2, 3, 8, 8)
        R = explain(model, x, 1)
    finally:
        del isnetlib.method.rules.RULES["tril"]
    model[2].forward = lambda x: x * torch.ones(6, 6).tril()
    assert torch.equal(R, explain(model, x, 1))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_scripted_and_compiled_models_are_refused():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    scripted, x = torch.jit.script(plain), torch.rand(2, 3, 8, 8)
    for model in (scripted, torch.compile(plain, backend="eager")):
        with pytest.raises(NotCovered, match="the model itself: scripted or compiled"):
            explain(model, x)
    with pytest.raises(NotCovered, match="^1: scripted or compiled"):
        check(nn.Sequential(nn.Conv2d(3, 3, 1), scripted), (3, 8, 8))
    with LRP() as lrp:
        logits = scripted(x)
    with pytest.raises(NotCovered, match="no operation was seen.*Scripted and compiled code"):
        lrp.relevance(torch.ones(2, 1, 2), logits)


def run(model, x, **options):
    with LRP(**options) as lrp:
        logits = model(x)
    return lrp, logits


def test_wrong_arguments_are_explained(net, x):
    lrp, logits = run(net, x)
    for shape in [(4, 3), (3, 1, 3), (4, 1, 2), (4, 1, 3, 1)]:
        with pytest.raises(ValueError, match="start must be \\(batch, maps, classes\\)"):
            lrp.relevance(torch.ones(shape).double(), logits)
    with pytest.raises(NotCovered, match="are they of this forward pass"):
        lrp.relevance(torch.ones(4, 1, 3).double(), net(x))
    with pytest.raises(ValueError, match="eps must be a number from 0 on"):
        LRP(eps=-1)
    for target in (3, -1, torch.tensor([0, 1, 2, 3]), 0.5):
        with pytest.raises(ValueError, match="class numbers from 0 to 2"):
            explain(net, x, target)
    with pytest.raises(ValueError, match="use None, a class number"):
        explain(net, x, "winner")
    with pytest.raises(ValueError, match="must return logits"):
        explain(net.stem, x)
    net.last.register_forward_hook(lambda module, args, logits: (logits, 2 * logits))
    with pytest.raises(ValueError, match=r"which of the outputs \[\(4, 3\), \(4, 3\)\] are the logits"):
        explain(net, x)


def test_pixels_must_lie_in_the_box(net, x):
    for wrong in (2 * x, x - 0.5, (x - 0.5) / 0.2):
        with pytest.raises(ValueError, match="pixels from .* leave the box \\(0.0, 1.0\\).*standardised"):
            explain(net, wrong)
    isnetlib.check(net, x.shape[1:], box=((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)))  # whatever the box
    with pytest.raises(ValueError, match="box has 2 channels, the images 3"):
        explain(net, x, box=((0.0, 0.0), (1.0, 1.0)))
    assert explain(net, 2 * x, box=(0, 2)).isfinite().all() and explain(net, 2 * x, box=None).isfinite().all()


@pytest.mark.parametrize("before", [nn.MaxPool2d(2), nn.Upsample(6, mode="bicubic")])  # which leaves the box
def test_z_box_needs_a_linear_first_layer(x, before):
    model = nn.Sequential(before, nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)).double()
    with pytest.raises(NotCovered, match="z\\^B needs a convolution or linear layer that reads the image"):
        explain(model, x)
    assert unlike(explain(model, x, 1, eps=0, box=None), twins.explain(model, x, 1)) < 1e-12


HOOKS = [name for name in vars(nn.Module()) if "hook" in name]


def state_of(model):
    """All that a call could leave behind."""
    return (
        [(name, id(p), p.requires_grad, id(p.grad)) for name, p in model.named_parameters()],
        [(id(m), m.training, *(list(getattr(m, hook) or ()) for hook in HOOKS)) for m in model.modules()],
        [(name, id(b)) for name, b in model.named_buffers()],
        {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("mode", ["train", "eval", "only dropout and BatchNorm in train mode"])
def test_explain_and_check_leave_no_trace(x, mode):
    model = randomised(Net(dropout=0.5)).train(mode == "train")
    if mode.startswith("only"):
        model.drop.train(), model.norm.train()
    before = state_of(model)
    for guard in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with guard:
            R = explain(model, x, "all")
            check(model, (3, 12, 12))
    assert state_of(model) == before and not R.requires_grad


@pytest.mark.parametrize("mode", [True, False])
def test_a_step_leaves_the_model_as_the_plain_forward_pass_does(x, mode):
    model = randomised(Net(dropout=0.5)).train(mode)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    plain = model(x)
    after = state_of(model)
    model.load_state_dict(saved)
    torch.manual_seed(1)
    lrp, logits = run(model, x)
    lrp.relevance(isnetlib.start_for(logits, "all"), logits).abs().sum().backward()
    model.zero_grad()
    assert torch.equal(logits, plain)
    assert state_of(model) == after
    model.load_state_dict(saved)
    torch.manual_seed(1)
    loss, _ = isnetlib.ISNet(model).loss(x, torch.tensor([0, 1, 2, 0]), mask_of(x))
    assert state_of(model) == after


def test_relevance_without_gradient(net, x):
    R = explain(net, x, 1)
    for guard in (torch.no_grad(), torch.inference_mode()):
        with guard:
            lrp, logits = run(net, x)
            again = lrp.relevance(isnetlib.start_for(logits, 1), logits)
        assert torch.equal(again, R) and not again.requires_grad
    with torch.inference_mode():
        assert torch.equal(explain(net, x.clone(), 1), R)  # an image made in inference mode


def test_it_can_be_used_again_and_after_an_exception(net, x):
    lrp = LRP()
    with pytest.raises(RuntimeError), lrp:
        net(x[:, :2])
    seen = len(lrp.graph.tape)
    net(x)
    assert len(lrp.graph.tape) == seen
    for images in (x, x.flip(-1), x[:2]):
        with lrp:
            logits = net(images)
        with pytest.raises(ValueError):
            lrp.relevance(torch.ones(1), logits)
        assert torch.equal(lrp.relevance(isnetlib.start_for(logits, 1), logits), explain(net, images, 1))


def test_training_steps_leave_no_tensors_behind():
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    method, tensors = isnetlib.ISNet(Net().train(), variant="original"), []
    gc.collect()
    gc.disable()  # what only the cycle collector frees would pile up in between
    try:
        for _ in range(6):
            method.zero_grad()
            method.loss(x, y, mask_of(x))[0].backward()
            tensors.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    finally:
        gc.enable()
    assert tensors[-1] == tensors[2]
