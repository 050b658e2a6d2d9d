"""ISNet: what its variants explain, and how its terms add up."""

import pytest
import torch
from scipy.stats import binomtest, chisquare
from torch import nn

import isnetlib
from isnetlib import ISNet, explain, heatmap_loss, start_for
from isnetlib.baselines.standard import IsnetBackground, randomise
from isnetlib.method.graph import NotCovered
from isnetlib.method.isnet import VARIANTS, stochastic_target
from isnetlib.method.loss import classification_loss
from isnetlib.networks import build_model


@pytest.fixture(params=[3, 1], ids=["three logits", "one logit"])
def batch(request):
    """Model in float64 and train mode, x, y, mask."""
    torch.manual_seed(0)
    model = build_model("small_resnet", request.param, width=4).double()
    mask = torch.zeros(4, 1, 16, 16)
    mask[:, :, 4:12, 3:11] = 1
    return model, torch.rand(4, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 1, 0, 1]), mask


def test_original_explains_every_class(batch):
    model, x, y, mask = batch
    _, parts = ISNet(model.eval(), "original", range=(1.0, 25.0)).loss(x, y, mask)
    h = heatmap_loss(explain(model, x, "all"), mask)
    assert (parts["background"], parts["foreground"]) == pytest.approx((h.background.item(), h.foreground.item()))


def test_selective_start_is_the_derivative_of_the_log_odds_of_the_least_likely_class():
    three = [[1.0, -2.0, 0.5], [3.0, 3.0, 3.0], [100.0, -100.0, 0.0], [-100.0, 100.0, 100.0], [0.0, 0.0, -1e4]]
    for values in (*three, [0.3, -0.2], [100.0, -100.0]):
        logits = torch.tensor([values], dtype=torch.float64, requires_grad=True)
        c = logits.argmin(1).item()
        eta = logits[0, c] - logits[0, [k for k in range(len(values)) if k != c]].logsumexp(0)
        (slope,) = torch.autograd.grad(eta, logits)
        torch.testing.assert_close(start_for(logits.detach(), "selective")[:, 0], slope, rtol=1e-12, atol=1e-300)
        assert start_for(logits.detach().float(), "selective").isfinite().all()
        if abs(eta.item()) < 20:  # where softmax still resolves 1 - P: eta = log(P / (1 - P))
            p = logits[0].softmax(0)[c]
            assert eta.item() == pytest.approx((p / (1 - p)).log().item())
    logits = torch.tensor([[2.0], [-3.0], [0.0]])  # of one logit: of the less likely answer
    assert start_for(logits, "selective").flatten().tolist() == [-1, 1, 1]


@pytest.mark.parametrize("classes", [2, 4])
def test_stochastic_tosses_a_fair_coin_a_sample(classes):
    assert torch.equal(stochastic_target(torch.randn(5, 1)), torch.zeros(5).long())  # one class
    torch.manual_seed(0)
    logits = torch.randn(classes)
    winner = logits.argmax().item()
    counts = stochastic_target(logits.expand(20_000, -1)).bincount(minlength=classes).tolist()
    won = counts.pop(winner)
    assert binomtest(won, 20_000, 0.5).pvalue > 1e-3
    assert len(counts) == classes - 1 and chisquare(counts).pvalue > 1e-3 or classes == 2
    flips = stochastic_target(logits.expand(1000, -1)) == winner  # a coin a sample, not a batch
    assert binomtest((flips[1:] != flips[:-1]).sum().item(), 999, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_adds_up_and_reaches_every_weight(batch, variant):
    model, x, y, mask = batch
    method = ISNet(model, variant, heatmap_weight=0.4, weights=(1.0, 3.0), range=(100, 200))
    loss, parts = method.loss(x, y, mask)
    assert list(parts) == ["classification", "background", "foreground", "net_share", "P"]
    expected = 0.6 * parts["classification"] + 0.4 * (parts["background"] + 3 * parts["foreground"])
    assert loss.item() == pytest.approx(expected) and parts["background"] > 0 and parts["foreground"] > 0
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_heatmaps_it_is_the_plain_classifier(batch, variant):
    model, x, y, mask = batch
    parameters = list(model.parameters())
    for weight, own in ((0.7, None), (0.7, 0 * mask), (0.0, mask)):
        gradients = torch.autograd.grad(ISNet(model, variant, weight).loss(x, y, own)[0], parameters)
        plain = torch.autograd.grad((1 - weight) * classification_loss(model(x), y), parameters)
        torch.testing.assert_close(gradients, plain, rtol=1e-9, atol=1e-12)


def test_every_second_step_has_a_heatmap_loss_twice_as_heavy(batch):
    model, x, y, mask = batch
    one, two = (ISNet(model, weights=(1.0, 1.0), heatmap_weight=0.5, ablation={"every": n}).train() for n in (1, 2))
    plain, _ = one.loss(x, y, None)
    full, parts = one.loss(x, y, mask)
    found = [two.loss(x, y, mask) for _ in range(3)]
    assert [set(p) for _, p in found] == [set(parts), {"classification"}, set(parts)]
    assert torch.isclose(found[0][0] - plain, 2 * (full - plain)) and torch.equal(found[1][0], plain)
    again = ISNet(model, ablation={"every": 2})
    again.load_state_dict(two.state_dict())
    assert set(again.train().loss(x, y, mask)[1]) == {"classification"}  # the count is part of a checkpoint
    assert set(again.eval().loss(x, y, mask)[1]) == set(parts)  # eval mode counts and leaves out nothing
    with pytest.raises(ValueError, match="every must be a whole number"):
        ISNet(model, ablation={"every": 0})


def test_range_auto_is_read_off_the_first_batch_with_masks_and_a_checkpoint_keeps_it(batch):
    model, x, y, mask = batch
    method = ISNet(model, range="auto").train()
    method.loss(x, y, 0 * mask)
    method.eval().loss(x, y, mask)  # neither an empty mask nor a look in eval mode settles it
    assert not method.range.any()
    method.train().loss(x, y, mask)
    low, high = method.range.tolist()
    with ISNet(model).lrp(image=x) as lrp:
        logits = model(x)
    R = lrp.relevance(method.start(logits), logits)
    assert (low, high) == pytest.approx(isnetlib.method.course.foreground_range(R, mask))
    again = ISNet(model, range="auto")
    again.load_state_dict(method.state_dict())
    fixed = ISNet(model, range=(low, high))
    assert again.loss(3 * x / 3, y, mask)[0].item() == pytest.approx(fixed.loss(x, y, mask)[0].item())


def test_watched_steps_tell_gradient_norms_and_change_nothing(batch):
    model, x, y, mask = batch
    method = ISNet(model, heatmap_weight=0.25, range=(1.0, 25.0))
    gradients = []
    for method.watch in (False, True):
        total, parts = method.loss(x, y, mask)
        gradients.append(torch.autograd.grad(total, model.parameters()))
    assert all(map(torch.equal, *gradients))
    assert (parts["range_low"], parts["range_high"]) == (1, 25)
    plain = torch.autograd.grad(classification_loss(model(x), y), model.parameters())
    norm = torch.stack([g.norm() for g in plain]).norm().item()
    assert parts["gradient_classification"] == pytest.approx(norm) and parts["gradient_heatmap"] > 0


def test_wrong_arguments_are_refused(batch):
    model, x, y, mask = batch
    with pytest.raises(ValueError, match="variant 'dual': use one of original, selective, stochastic"):
        ISNet(model, "dual")
    for wrong in (x * 3, x * torch.nan):
        with pytest.raises(ValueError, match="leave the box"):
            ISNet(model).loss(wrong, y, mask)
    with pytest.raises(ValueError, match="model must be a torch module, .* got str"):
        ISNet("resnet18")
    with pytest.raises(NotCovered, match="scripted or compiled"):
        ISNet(torch.compile(model))
    several = ISNet(build_model("small_resnet", 3, width=4).double(), multilabel=True)
    one = ISNet(build_model("small_resnet", 1, width=4).double())
    for method, wrong in (
        (one, y + 1),
        (one, y - 1),
        (several, y),
        (several, torch.ones(3, len(y))),
        (several, 2 * torch.ones(len(y), 3)),
    ):
        with pytest.raises(ValueError, match=r"labels must be from 0 to 1, one a logit; got \("):
            method.loss(x, wrong, mask)
    ISNet(model, box=(0, 3)).loss(x * 3, y, mask)


def test_training_turns_relevance_away_from_a_planted_mark():
    """Two classes told apart by a mark in the corner and, less plainly, by the object; 80 steps on the same images."""
    torch.manual_seed(0)
    y = torch.arange(16) % 2
    x, mask = torch.rand(16, 3, 16, 16) * 0.1, torch.zeros(16, 1, 16, 16)
    x[:, 0, :4, :4] = y[:, None, None] * 0.9
    x[:, 1, 6:12, 6:12] = 0.4 + 0.3 * y[:, None, None]
    mask[..., 5:13, 5:13] = 1
    shares = {}
    for weight in (0.0, 0.7):
        torch.manual_seed(1)
        method = ISNet(build_model("small_resnet", 2, width=4), heatmap_weight=weight, range=(1.0, 25.0))
        optimizer = torch.optim.AdamW(method.parameters(), 5e-3)
        for _ in range(80):
            optimizer.zero_grad()
            loss, _ = method.loss(x, y, mask)
            loss.backward()
            optimizer.step()
        R = explain(method.eval().model, x).abs().sum((1, 2))
        shares[weight] = ((R * (1 - mask[:, 0])).sum() / R.sum()).item()
        assert (method.predict(x).argmax(1) == y).all()
    assert shares[0.7] < 0.4 < 0.6 < shares[0.0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_labels_an_image_each_have_their_sigmoid(variant):
    torch.manual_seed(0)
    model = build_model("small_resnet", 3, width=4).eval()
    x, y, mask = torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    method, p = ISNet(model, variant, multilabel=True), model(x).sigmoid()
    loss, parts = method.loss(x, y, mask)
    bce = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert parts["classification"] == pytest.approx(bce.item(), rel=1e-5) and loss.isfinite() and len(parts) == 5
    torch.testing.assert_close(method.predict(x), p)


@pytest.mark.parametrize("variant", ["selective", "stochastic"])
def test_with_several_labels_one_map_explains_a_label_drawn_for_each_image(variant):
    torch.manual_seed(0)
    starts = ISNet(nn.Identity(), variant, multilabel=True).start(torch.randn(2000, 4))
    assert starts.shape == (2000, 1, 4) and (starts.sum(2) == 1).all() and starts.unique().tolist() == [0, 1]
    assert ((starts.mean((0, 1)) - 0.25).abs() < 0.05).all()


def test_isnet_with_random_backgrounds_is_isnet_on_randomised_images(batch):
    model, x, y, mask = batch
    kept, swapped = (IsnetBackground(model, p, 0.5, range=(1.0, 25.0)).train() for p in (0.0, 1.0))
    plain = ISNet(model, heatmap_weight=0.5, range=(1.0, 25.0)).train()
    assert kept.loss(x, y, mask) == plain.loss(x, y, mask)
    torch.manual_seed(3)
    other = randomise(x, mask, 1.0)
    assert torch.equal(other * mask, x * mask) and not torch.equal(other, x)
    torch.manual_seed(3)
    assert swapped.loss(x, y, mask) == plain.loss(other, y, mask)
    assert swapped.eval().loss(x, y, mask) == plain.eval().loss(x, y, mask)
    with pytest.raises(ValueError, match="p must be a number from 0 to 1"):
        IsnetBackground(model, 1.5)
