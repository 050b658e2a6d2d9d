"""The relevance pass on whole networks: what it computes, and that it leaves no trace."""

import pytest
import torch
import twins
from torch import nn

import isnetlib
from isnetlib.models import build_model

NETWORKS = "resnet18 resnet50 densenet121 vgg16 vgg11_bn googlenet inception_v3 squeezenet1_1 mobilenet_v2 shufflenet_v2_x1_0 mnasnet0_5"


def unlike(a, b):
    """Relative distance |a - b| / |b|."""
    return ((a - b).norm() / b.norm()).item()


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
    x = torch.rand(2, 3, *[75 if request.param == "inception_v3" else 64] * 2, dtype=torch.float64)
    return randomise(build_model(request.param, 3).double(), x), x


def test_without_eps_it_is_input_times_gradient(network):
    model, x = network
    assert unlike(isnetlib.explain(model.eval(), x, 1, eps=0, box=None), twins.explain(model, x, 1)) < 1e-6


def test_train_mode_holds_batch_statistics_constant(network):
    model, x = network
    torch.manual_seed(1)
    twin = twins.explain(model.train(), x, 1)
    torch.manual_seed(1)  # the same dropout
    assert unlike(isnetlib.explain(model, x, 1, eps=0, box=None), twin) < 1e-6


def test_eps_is_back_propagation_with_modified_activations(network):
    model, x = network
    R = isnetlib.explain(model.eval(), x, 1, eps=1e-2, box=None)
    assert unlike(R, twins.explain(model, x, 1, eps=1e-2)) < 1e-6
    assert unlike(R, twins.explain(model, x, 1)) > 1e-3
