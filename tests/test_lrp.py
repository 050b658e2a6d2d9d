"""The relevance pass on whole networks: what it computes, what it refuses, and that it leaves no trace."""

import gc
import resource
import weakref

import pytest
import torch
import torch.nn.functional as F
import twins
from torch import nn
from twins import unlike

import isnetlib
from isnetlib import LRP, NotCovered, check, explain
from isnetlib.models import build_model

NETWORKS = """resnet18 resnet50 densenet121 vgg16 vgg11_bn googlenet inception_v3 squeezenet1_1 mobilenet_v2
shufflenet_v2_x1_0 mnasnet0_5"""


# ------------------------------------------------------------------------------------------------- named networks
def randomise(model, x):
    """Random BatchNorm weights and biases; running statistics near, but not at, those of the images x."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm in norms:
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    return model


@pytest.fixture(scope="module", params=NETWORKS.split())
def network(request):
    torch.manual_seed(0)
    size = 75 if request.param == "inception_v3" else 48
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    return randomise(build_model(request.param, 3).double(), x), x


def test_without_eps_it_is_input_times_gradient(network):
    model, x = network
    assert unlike(explain(model.eval(), x, 1, eps=0, box=None), twins.explain(model, x, 1)) < 1e-6


def test_train_mode_holds_batch_statistics_constant(network):
    model, x = network
    torch.manual_seed(1)
    twin = twins.explain(model.train(), x, 1)
    torch.manual_seed(1)  # the same dropout
    assert unlike(explain(model, x, 1, eps=0, box=None), twin) < 1e-6


def test_eps_is_back_propagation_with_modified_activations(network):
    model, x = network
    R = explain(model.eval(), x, "all", eps=1e-2, box=None)[:, 1:2]
    assert unlike(R, twins.explain(model, x, 1, eps=1e-2)) < 1e-6


def test_relevance_is_conserved_without_biases_and_eps(network):  # the last one: it changes the network
    model, x = network
    for name, value in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.zero_()
    logit = model.eval()(x)[:, 1:2]
    for box in (None, (0.0, 1.0)):
        R = explain(model, x, 1, eps=0, box=box)
        torch.testing.assert_close(R.sum((2, 3, 4)), logit, rtol=1e-6, atol=1e-12)


# ---------------------------------------------------------------------- a small network with everything
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
    return randomise(Net().double(), x).eval()


def mask_of(x):
    mask = torch.zeros_like(x[:, :1])
    mask[:, :, 2:8, 3:9] = 1
    return mask


PARAMETERS = {  # every kind of weight
    "first convolution": "stem.0.weight",
    "first bias": "stem.0.bias",
    "first BatchNorm weight": "stem.1.weight",
    "first BatchNorm bias": "stem.1.bias",
    "convolution": "conv.weight",
    "bias": "grow.bias",
    "BatchNorm weight": "norm.weight",
    "BatchNorm bias": "norm.bias",
    "BatchNorm weight, no layer before": "late.weight",
    "BatchNorm bias, no layer before": "late.bias",
    "linear": "hidden.weight",
    "linear bias": "hidden.bias",
    "last": "last.weight",
}


def finite_difference(f, parameter, direction, h=1e-7):
    ends = []
    with torch.no_grad():
        for step in (h, -2 * h):
            parameter.add_(direction, alpha=step)
            ends.append(f().item())
        parameter.add_(direction, alpha=h)
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("target", [None, "all", "selective"])
@pytest.mark.parametrize("name", PARAMETERS.values(), ids=PARAMETERS)
def test_gradient_of_the_heatmap_loss(net, x, name, target):
    def loss():
        with LRP() as lrp:
            logits = net(x)
        R = lrp.relevance(isnetlib.start_for(logits, target), logits)
        return isnetlib.heatmap_loss(R, mask_of(x), foreground_range=(0.05, 0.2)).total

    parameter = net.get_parameter(name)
    direction = torch.randn_like(parameter)
    (gradient,) = torch.autograd.grad(loss(), parameter)
    assert gradient.norm() > 1e-6
    slope = finite_difference(loss, parameter, direction)
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", PARAMETERS.values(), ids=PARAMETERS)
def test_gradient_in_train_mode(net, x, name):
    """Activations follow their batch statistics; the relevance pass holds those statistics where they were."""
    statistics = []

    def batch_norm(z, mean, var, weight, bias, training, momentum, eps):
        """The value of BatchNorm with live statistics, the gradient of one with the statistics of the first call."""
        dims = (0, 2, 3)
        live = twins.real["batch_norm"](z, None, None, weight, bias, True, 0.0, eps)
        if len(statistics) < 3:
            statistics.append((z.detach().var(dims, correction=0) + eps).rsqrt().view(1, -1, 1, 1))
        sigma = statistics[calls.pop(0)]
        frozen = z * sigma * weight.view(1, -1, 1, 1)
        return frozen + (live - frozen).detach()

    def twin():
        calls[:] = range(3)
        held = twins.mock.patch.object(F, "batch_norm", batch_norm)
        with twins.modified_gradient(1e-2), held, torch.enable_grad():
            inputs = x.clone().requires_grad_()
            gradient = torch.autograd.grad(net(inputs)[:, 1].sum(), inputs)[0]
        return isnetlib.heatmap_loss((x * gradient)[:, None], mask_of(x), foreground_range=(0.05, 0.2)).total

    calls, parameter = [], net.train().get_parameter(name)
    with LRP(box=None) as lrp:
        logits = net(x)
    R = lrp.relevance(isnetlib.start_for(logits, 1), logits)
    loss = isnetlib.heatmap_loss(R, mask_of(x), foreground_range=(0.05, 0.2)).total
    assert loss.item() == pytest.approx(twin().item(), rel=1e-9)
    direction = torch.randn_like(parameter)
    (gradient,) = torch.autograd.grad(loss, parameter)
    slope = finite_difference(twin, parameter, direction)
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_stacked_maps_are_the_maps_one_by_one(net, x):
    R = explain(net, x, "all")
    assert R.shape == (4, 3, 3, 12, 12)
    assert unlike(R, torch.cat([explain(net, x, c) for c in range(3)], 1)) < 1e-12
    assert unlike(explain(net, x, torch.tensor([0, 2, 1, 1]))[:, 0], R[range(4), [0, 2, 1, 1]]) < 1e-12
    assert torch.equal(explain(net, x), explain(net, x, net(x).argmax(1)))


# ----------------------------------------------------------------------------------------- what is refused, and how
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
    @torch.library.custom_op("isnetlib_tests::mirror", mutates_args=())
    def mirror(x: torch.Tensor) -> torch.Tensor:
        return x.flip(-1).clone()

    class Mirror(nn.Module):
        def forward(self, x):
            return torch.ops.isnetlib_tests.mirror(x)

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Mirror(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(NotCovered, match="2 \\(Mirror\\): mirror: this operation has no relevance rule"):
        check(model, (3, 8, 8))
    isnetlib.rule("mirror")(lambda lrp, x: lrp.linear(lambda t: t.flip(-1), x))
    try:
        check(model, (3, 8, 8))
        x = torch.rand(2, 3, 8, 8)
        R = explain(model, x, 1)
    finally:
        del isnetlib.rules.RULES["mirror"]
    model[2].forward = lambda x: x.flip(-1)
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
    with pytest.raises(ValueError, match="no output of the forward pass has shape \\(4, 5\\)"):
        lrp.relevance(torch.ones(4, 1, 5).double())
    with pytest.raises(NotCovered, match="are they of this forward pass"):
        lrp.relevance(torch.ones(4, 1, 3).double(), net(x))
    with pytest.raises(ValueError, match="eps must be 0 or positive"):
        LRP(eps=-1)
    for target in (3, -1, torch.tensor([0, 1, 2, 3]), 0.5):
        with pytest.raises(ValueError, match="class numbers from 0 to 2"):
            explain(net, x, target)
    with pytest.raises(ValueError, match="use None, a class number"):
        explain(net, x, "winner")
    with pytest.raises(ValueError, match="must return logits"):
        explain(net.stem, x)


def test_pixels_must_lie_in_the_box(net, x):
    for wrong in (2 * x, x - 0.5, (x - 0.5) / 0.2):
        with pytest.raises(ValueError, match="pixels from .* leave the box \\(0.0, 1.0\\).*standardised"):
            explain(net, wrong)
    assert explain(net, 2 * x, box=(0, 2)).isfinite().all() and explain(net, 2 * x, box=None).isfinite().all()


def test_z_box_needs_a_linear_first_layer(x):
    model = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)).double()
    with pytest.raises(NotCovered, match="z\\^B needs a convolution or linear layer that reads the image"):
        explain(model, x)
    assert unlike(explain(model, x, 1, eps=0, box=None), twins.explain(model, x, 1)) < 1e-12


# --------------------------------------------------------------------------------------------------- nothing to undo
HOOKS = [name for name in vars(nn.Module()) if "hook" in name]


def state_of(model):
    """All that a call could leave behind."""
    modules = list(model.modules())
    return (
        [(name, id(p), p.requires_grad, p.grad) for name, p in model.named_parameters()],
        [(id(m), m.training, *(list(getattr(m, hook) or ()) for hook in HOOKS)) for m in modules],
        [(name, id(b)) for name, b in model.named_buffers()],
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    )


def assert_same(now, before):
    assert now[:3] == before[:3] and now[5] == before[5]
    assert all(torch.equal(now[3][name], value) for name, value in before[3].items()) and torch.equal(now[4], before[4])


@pytest.mark.parametrize("mode", ["train", "eval", "only dropout and BatchNorm in train mode"])
def test_explain_and_check_leave_no_trace(x, mode):
    model = randomise(Net(dropout=0.5).double(), x).train(mode == "train")
    if mode.startswith("only"):
        model.drop.train(), model.norm.train()
    before = state_of(model)
    for guard in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with guard:
            R = explain(model, x, "all")
            check(model, (3, 12, 12))
    assert_same(state_of(model), before)
    assert not R.requires_grad and torch.get_rng_state().equal(before[4])


@pytest.mark.parametrize("mode", [True, False])
def test_a_step_leaves_the_model_as_the_plain_forward_pass_does(x, mode):
    model = randomise(Net(dropout=0.5).double(), x).train(mode)
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
    assert_same(state_of(model), after)
    model.load_state_dict(saved)
    torch.manual_seed(1)
    loss, _ = isnetlib.ISNet(model).loss(x, torch.tensor([0, 1, 2, 0]), mask_of(x))
    assert_same(state_of(model), after)


def test_relevance_without_gradient(net, x):
    R = explain(net, x, 1)
    for guard in (torch.no_grad(), torch.inference_mode()):
        with guard:
            lrp, logits = run(net, x)
            again = lrp.relevance(isnetlib.start_for(logits, 1), logits)
        assert torch.equal(again, R) and not again.requires_grad
    with torch.inference_mode():
        assert torch.equal(explain(net, x.clone(), 1), R)  # an image made in inference mode


def test_it_can_be_used_again(net, x):
    lrp = LRP()
    for images in (x, x.flip(-1), x[:2]):
        with lrp:
            logits = net(images)
        assert torch.equal(lrp.relevance(isnetlib.start_for(logits, 1)), explain(net, images, 1))


def test_an_exception_leaves_the_mode(net, x):
    lrp = LRP()
    with pytest.raises(RuntimeError), lrp:
        net(x[:, :2])
    seen = len(lrp.graph.tape)
    net(x)
    assert len(lrp.graph.tape) == seen
    lrp, logits = run(net, x)
    with pytest.raises(ValueError):
        lrp.relevance(torch.ones(1), logits)
    assert lrp.relevance(isnetlib.start_for(logits), logits).isfinite().all()


def test_the_image_is_found_behind_constants(x):
    class Standardised(Net):
        mean = torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64)

        def forward(self, x):
            return super().forward(-self.mean + x)

    torch.manual_seed(0)
    model = Standardised().double().eval()
    plain = nn.Sequential(Net().double().eval())
    plain[0].load_state_dict(model.state_dict())
    R = explain(plain, x - 0.4, 1, box=(-0.4, 0.6))
    assert unlike(explain(model, x, 1), R) < 1e-12


def test_thirty_training_steps_grow_no_memory():
    torch.manual_seed(0)
    x, y = torch.rand(4, 3, 96, 96), torch.tensor([0, 1, 2, 0])
    method = isnetlib.ISNet(randomise(Net(), x).train(), variant="original")
    optimizer = torch.optim.SGD(method.parameters(), 1e-4)
    tensors, peaks = [], []
    gc.collect()
    gc.disable()  # what only the cycle collector frees would pile up in between
    try:
        for _ in range(30):
            with LRP() as lrp:
                logits = method.model(x)
            R = lrp.relevance(isnetlib.start_for(logits, "all"), logits)
            gone = [weakref.ref(t) for t in (logits, R, lrp)]
            R.sum().backward()
            del lrp, logits, R
            assert [ref() for ref in gone] == [None] * 3
            loss, _ = method.loss(x, y, mask_of(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            del loss
            tensors.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    finally:
        gc.enable()
    assert tensors[-1] == tensors[3]
    assert peaks[-1] - peaks[9] < 20 * 1024  # KiB; the maps and activations of one step are more
