"""Scores against boxes, by hand."""

import numpy as np
import torch

from isnetlib import boxes, data, evaluate
from isnetlib.baselines import build


def test_masks_of_boxes():
    masks = boxes.box_masks(['[["active", 1, 0, 3, 2], ["latent", 3.2, 3.6, 3.4, 3.8]]', "", "[]"], 4, 5)
    wanted = torch.zeros(4, 5)
    wanted[0:2, 1:3] = 1
    wanted[3, 3] = 1  # smaller than a pixel: the pixel it starts in
    assert torch.equal(masks[0], wanted) and not masks[1:].any()


def test_hit_share_and_chance_by_hand():
    R = torch.zeros(3, 1, 2, 2, 2)
    R[0, 0, :, 0, 0], R[0, 0, 0, 1, 1] = torch.tensor([-2.0, 1.0]), 1.0  # |R| 3 at the first pixel, 1 at the last
    R[1] = R[0]
    inside = torch.zeros(3, 2, 2)
    inside[0, 0], inside[1, 1, 1] = 1, 1
    found = boxes.scores(R, inside)
    assert found["box_hit"][:2].tolist() == [1, 0] and found["box_share"][:2].tolist() == [0.75, 0.25]
    assert found["box_chance"][:2].tolist() == [0.5, 0.25]
    assert all(value[2].isnan() for value in found.values())


def test_a_data_set_with_boxes_is_scored_against_them():
    digits = data.load("digits", train_size=20, validation_size=10, test_size=20)
    images = digits.tests["biased"]
    images.frame["boxes"] = ["", *['[["digit", 0, 0, 40, 20]]'] * 19]
    method = build("standard", "small_resnet", 10, 40)
    tested = evaluate.test(method, images)
    frame = tested.predictions
    assert np.isnan(frame["box_hit"][0]) and frame["box_hit"][1:].isin([0, 1]).all()
    assert np.allclose(frame["box_chance"][1:], 0.5) and frame["box_share"][1:].between(0, 1).all()
    assert evaluate.summarise(frame)["box_chance"] == 0.5
    assert "box_hit" not in evaluate.test(method, digits.tests["unbiased"]).predictions
