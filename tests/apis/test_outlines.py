"""Which pixels are a person's."""

import cv2
import numpy as np
import pytest

from sapiens.apis import Inferencer
from sapiens.apis.outlines import fit_outline, in_box, nearest_parts


def test_pixels_in_a_box():
    inside = in_box((12, 20, 16, 29), (10, 18, 20, 32))
    assert inside.shape == (14, 10)
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 11, 2, 6)
    grown = in_box((12, 20, 16, 29), (10, 18, 20, 32), margin=0.25)
    assert grown.sum() == 7 * 14 and grown[:, 1].all() and not grown[:, 0].any()


def figure(height, width):
    """A figure of one colour before a pattern of others: the image and where it is."""
    person = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (width // 5, height // 3)
    cv2.ellipse(person, centre, axes, 0, 0, 360, 1, -1)
    rng = np.random.default_rng(0)
    image = rng.integers(60, 140, (height, width, 3)).astype(np.uint8)
    image[..., 0] = np.where(person, 220, 30)
    return image, person > 0


def coarse(person, cells=16):
    """What a small network knows of it: log-odds of few pixels, moved a little, and nowhere quite sure."""
    few = cv2.resize(person.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
    odds = cv2.resize(few, person.shape[::-1], interpolation=cv2.INTER_LINEAR) * 4 - 2
    return np.roll(odds, round(0.03 * person.shape[1]), 1)


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize('size', [(96, 80), (256, 192), (700, 500), (301, 499)])
def test_a_coarse_outline_moves_to_the_edges(size):
    image, person = figure(*size)
    odds = coarse(person)
    found = fit_outline(image, odds, np.ones(size, bool))
    assert found.shape == size and iou(found, person) > 0.97 > 0.9 > iou(odds > 0, person)
    np.testing.assert_array_equal(found, fit_outline(image, odds, np.ones(size, bool)))


def test_nobody_is_beyond_the_box():
    """A twin beside the person, as likely, is not the person's."""
    image, person = figure(200, 150)
    image, odds = np.hstack([image, image]), np.hstack([coarse(person)] * 2)
    inside = np.zeros(odds.shape, bool)
    inside[:, :150] = True
    found = fit_outline(image, odds, inside)
    assert not found[:, 150:].any() and iou(found[:, :150], person) > 0.95


def test_things_of_the_same_colour_are_no_person():
    image, person = figure(200, 150)
    image[10:25, 5:20, 0] = 220
    found = fit_outline(image, np.where(person, coarse(person), -0.5), np.ones(person.shape, bool))
    assert not found[5:30, :25].any() and iou(found, person) > 0.95


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (40, 40)])
@pytest.mark.parametrize('odds', [-5.0, 0.5, 5.0])
def test_where_colours_cannot_decide_the_network_does(size, odds):
    image = np.full((*size, 3), 90, np.uint8)
    assert (fit_outline(image, np.full(size, odds, np.float32), np.ones(size, bool)) == (odds > 0)).all()


def test_new_pixels_get_the_nearest_part():
    parts = np.zeros((4, 9), np.uint8)
    parts[:, 1:3], parts[:, 6] = 7, 9
    person = np.zeros((4, 9), bool)
    person[:, 2:8] = True
    np.testing.assert_array_equal(nearest_parts(parts, person), np.tile(np.uint8([0, 0, 7, 7, 7, 9, 9, 9, 0]), (4, 1)))
    assert not nearest_parts(parts, np.zeros_like(person)).any()
    only = np.zeros_like(person)
    only[:, 8] = True  # no part that was found lies in the person
    assert (nearest_parts(parts, only)[:, 8] == 9).all()


def test_parts_of_a_person_end_at_the_box(make_model):
    """Who stands beside the box, in the padding of its crop, is not that person; without boxes all of it counts."""
    image, box = np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8), [80, 20, 120, 100]
    model = make_model('seg')
    result = Inferencer(*model, device='cpu', per_person=True, detector=[box]).predict(image, color='rgb')
    inside = in_box(box, (0, 0, 200, 120), 0.05)
    assert result.parts.mask[inside].any() and not result.parts.mask[~inside].any()
    assert Inferencer(*model, device='cpu').predict(image, color='rgb').parts.mask[~inside].any()
