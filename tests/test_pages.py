"""Pictures inside pages: tall ones are cut where little is drawn, and the pieces are the picture."""

import io
import re
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from isnetlib import pages


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def read(piece):
    """As whoever opens a data URL reads it."""
    with urlopen(f"data:image/png;base64,{piece}") as answer:
        return answer.read()


def decoded(piece):
    return np.asarray(Image.open(io.BytesIO(read(piece))).convert("RGB"))


def test_a_picture_that_fits_on_paper_stays_whole():
    pixels = np.full((130, 100, 3), 255, np.uint8)
    pixels[10:40] = 200, 30, 60
    (piece,) = pages.pieces(png(pixels))
    assert np.array_equal(decoded(piece), pixels)


def test_colours_are_told_by_a_palette_that_the_eye_takes_for_them():
    x, y = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 1, 400))
    pixels = (255 * np.stack([x, 1 - x, np.full_like(x, 0.5)], 2)).astype(np.uint8)  # 256 steps
    pixels[y > 0.5] = 255
    (piece,) = pages.pieces(png(pixels))
    assert np.abs(decoded(piece).astype(int) - pixels).max() <= 6
    assert (decoded(piece)[300:] == 255).all()  # the page's white
    noisy = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    (piece,) = pages.pieces(png(noisy))
    assert len(read(piece)) < len(png(noisy)) / 2
    assert "%2B" in piece and "%2F" in piece and re.fullmatch("[A-Za-z0-9%]+=*", piece)  # no word stands by itself


def test_the_pieces_of_a_tall_picture_are_the_picture():
    pixels = np.full((700, 100, 3), 255, np.uint8)
    for row in range(0, 700, 50):
        pixels[row + 10 : row + 40, 20:80] = np.random.default_rng(row).integers(0, 2, (30, 60, 3)) * 240
    parts = [decoded(piece) for piece in pages.pieces(png(pixels))]
    assert len(parts) > 4 and np.array_equal(np.concatenate(parts), pixels)
    assert all(len(part) <= pages.TALL * 100 for part in parts)
    assert all((part[[0, -1]] == 255).all() for part in parts)  # nothing that is drawn is cut in two


def test_a_cut_lies_in_the_middle_of_the_longest_empty_band():
    ink = np.ones(150, int)
    ink[55:58] = ink[70:80] = ink[95:97] = 0
    assert pages.cuts(ink, 100) == [75]
    ink[55:65] = 0  # as long: the lower one
    assert pages.cuts(ink, 100) == [75]
    assert pages.cuts(np.ones(100, int), 100) == []


@pytest.mark.parametrize("most", [7, 10, 64])
def test_no_piece_is_higher_than_allowed_whatever_is_drawn(most):
    for ink in (np.ones(333, int), np.arange(333), np.arange(333)[::-1], np.random.default_rng(0).integers(0, 3, 333)):
        edges = np.array([0, *pages.cuts(ink, most), 333])
        assert (np.diff(edges) > 0).all() and np.diff(edges).max() <= most


def test_a_picture_that_is_missing_is_told(tmp_path):
    found = pages.picture(tmp_path, "gone", "text", "notebook 40_compare")
    assert found["pieces"] == [] and not found["wide"]
    Image.new("RGB", (1400, 10)).save(tmp_path / "wide.png")
    assert pages.picture(tmp_path, "wide", "text", "x")["wide"]
