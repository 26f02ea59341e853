# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The detector on windows: they cover the image, boxes come back to it, cut ones are left to other windows."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from sapiens.apis import Detections, build_detector, tiny_detector
from sapiens.apis.sources import Frame
from sapiens.apis.tiny_detector import TOWARDS_REGION, TinyDetector, body_score, uncut, windows
from sapiens.engine.files import save_plain
from sapiens.errors import UserError
from sapiens.models import PartHead, PoseHead
from sapiens.registry import MODELS
from sapiens.structures.geometry import box_iou
from sapiens.vocabularies import load_vocabulary

CONFIG = 'configs/detection/sapiens_tiny_persons.py'


@pytest.mark.parametrize('size', [(480, 640), (640, 480), (100, 900), (33, 21)])
def test_windows_of_every_level_cover_the_image(size):
    found = windows(size, (256, 192), 3)
    seen = np.zeros((3, *size), int)
    largest = found[0][2]
    for x, y, w, h in found:
        assert w / h == pytest.approx(0.75)
        level = int(round(np.log2(largest / w)))
        seen[level, max(0, int(np.floor(y))) : int(np.ceil(y + h)), max(0, int(np.floor(x))) : int(np.ceil(x + w))] += 1
    assert (seen > 0).all() and (seen[0] == 1).all()


def test_boxes_at_a_windows_side_count_only_where_the_image_ends_too():
    view, size = np.array([0.0, 100.0, 300.0, 400.0]), (480, 640)
    boxes = np.array([[50, 150, 100, 250], [1, 150, 100, 250], [50, 101, 99, 250], [200, 150, 299, 250.0]])
    assert uncut(boxes, view, size).tolist() == [True, True, False, False]


@pytest.fixture
def detector(tmp_path):
    """A model whose head sees one person in the middle third of whatever it looks at, where that is bright."""
    from sapiens.engine.config import load_config

    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model)
    save_plain({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'model.pth')
    made = TinyDetector(levels=1, model=CONFIG, weights=tmp_path / 'model.pth', refine=None)

    def outputs(inputs, flip_test, heads):
        assert heads == ['person'] and inputs.shape[1:] == (3, *made.size)
        bright = inputs.mean(1)[:, 2::4, 2::4]
        result = torch.full((len(inputs), 5, *bright.shape[1:]), float(np.log(1 / 6 / 0.15)))
        result[:, 0] = -9
        brightest = bright.flatten(1).argmax(1)
        row, column = brightest // bright.shape[2], brightest % bright.shape[2]
        result[range(len(inputs)), 0, row, column] = 4.0
        return {'person': result}

    made.network.outputs = outputs
    return made


def test_a_box_comes_back_to_the_pixels_it_was_found_at(detector):
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:216, 400:416] = 255
    found = detector(Frame(image, 'made'))
    assert len(found.boxes) == 1 and found.scores[0] > 0.9
    x1, y1, x2, y2 = found.boxes[0]
    assert (x1 + x2) / 2 == pytest.approx(408, abs=16) and (y1 + y2) / 2 == pytest.approx(208, abs=16)
    # A third of the first window, which is 640 x 640.
    assert x2 - x1 == pytest.approx(640 / 3, rel=0.05) and y2 - y1 == pytest.approx(640 / 3, rel=0.05)


def test_a_look_at_parts_gives_the_extent_of_a_person(detector):
    def parts(inputs, heads):
        """Logits of a person where the picture is bright."""
        bright = inputs.mean(1)[:, 2::4, 2::4] > 0.5
        return {'seg': torch.stack([~bright, bright], 1).float() * 20}

    detector.network.data_preprocessor.mean.zero_(), detector.network.data_preprocessor.std.fill_(255)
    detector.network.outputs = parts
    image = np.zeros((480, 640, 3), np.uint8)
    image[100:400, 300:400] = 255
    around = np.array([[280, 120, 390, 380], [310, 110, 420, 395], [20, 20, 120, 200.0]])
    detector.judge = detector.network, (192, 144), {PartHead: 'seg'}
    refined = detector._refine(image, around)
    assert np.abs(refined[:2, :4] - [300, 100, 400, 400]).max() < 8 and (refined[:2, 4] > 0.9).all()
    assert refined[2, 4] == 0


def test_points_of_a_body_that_are_sure_raise_a_boxs_worth(detector):
    head = SimpleNamespace(vocabulary=load_vocabulary('keypoints308'))
    heatmaps = torch.full((2, 308, 8, 6), -0.1)
    heatmaps[0, head.vocabulary.groups['body'][:10], 3, 3] = torch.linspace(0.5, 1.4, 10)
    heatmaps[1, head.vocabulary.groups['face'], 3, 3] = 1.0
    assert body_score(head, heatmaps) == pytest.approx([(0.5 + 0.6 + 0.7 + 0.8 + 0.9 + 5) / 17, 0], abs=1e-6)
    scores = iter([0.9, 0.3])

    def outputs(inputs, heads):
        """The whole picture is a person, with points that are less sure each time."""
        seg = torch.stack([torch.full((len(inputs), 48, 36), value) for value in (-20.0, 20.0)], 1)
        return {'seg': seg, 'pose': torch.full((len(inputs), 308, 48, 36), next(scores))}

    network = SimpleNamespace(
        outputs=outputs, heads={'pose': head}, data_preprocessor=detector.network.data_preprocessor
    )
    detector.judge = network, (192, 144), {PartHead: 'seg', PoseHead: 'pose'}
    box, image = np.array([[100, 100, 300, 300.0]]), np.zeros((480, 640, 3), np.uint8)
    assert [detector._refine(image, box)[0, 4] for _ in range(2)] == pytest.approx([0.9, 0.3], rel=1e-3)


def test_boxes_that_do_not_fit_move_and_count_less(detector, monkeypatch):
    a, b = (
        np.array([[0, 0, 10, 10.0], [0, 0, 10, 10], [0, 0, 0, 0]]),
        np.array([[0, 0, 10, 10.0], [5, 0, 15, 10], [0, 0, 0, 0]]),
    )
    assert box_iou(a, b) == pytest.approx([1, 1 / 3, 0])
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:216, 400:416] = 255
    (box,), (said,) = (detector(Frame(image, 'made')).boxes, detector(Frame(image, 'made')).scores)
    half = (box + [0, 0, 0, (box[1] - box[3]) / 2]).tolist()
    looks = iter([[*half, 0.8], [*half, 0.01]])
    monkeypatch.setattr(detector, 'judge', ())
    monkeypatch.setattr(detector, '_refine', lambda image, boxes: np.array([next(looks)]))
    found = detector(Frame(image, 'made'))
    assert found.boxes[0] == pytest.approx(box + TOWARDS_REGION * (np.array(half) - box), abs=1e-3)
    share = np.prod(box[2:] - box[:2]) / (480 * 640)
    assert found.scores[0] == pytest.approx((said * 0.8 * 0.5) ** (1 / 4) * share**0.05, rel=1e-4)
    assert not len(detector(Frame(image, 'made')).boxes)  # nobody there


def test_a_box_within_a_better_one_counts_less(detector, monkeypatch):
    boxes = np.array([[0, 0, 100, 200], [10, 10, 60, 110], [40, 120, 140, 240], [300, 0, 399, 200]], np.float32)
    scores = np.array([0.8, 0.7, 0.6, 0.5], np.float32)
    proposals = iter([Detections(boxes, scores), None])
    made = tiny_detector.make_detections
    monkeypatch.setattr(tiny_detector, 'make_detections', lambda *args: next(proposals) or made(*args))
    monkeypatch.setattr(detector, 'judge', ())
    monkeypatch.setattr(detector, 'threshold', 0.0)
    monkeypatch.setattr(detector, '_refine', lambda image, boxes: np.column_stack([boxes, np.ones(4)]))
    found = detector(Frame(np.zeros((300, 400, 3), np.uint8), 'made'))
    expected = scores**0.25 * ((boxes[:, 2:] - boxes[:, :2]).prod(1) / (300 * 400)) ** 0.05
    expected[1] *= 0.85
    order = np.argsort(-expected)
    np.testing.assert_allclose(found.scores, expected[order], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes[order])


@pytest.mark.parametrize('size', [(4, 4000), (4000, 4), (1, 1)])
def test_of_a_line_something_is_left(detector, size):
    """A rule or a spacer among photos ended the run in an error of OpenCV."""
    assert len(detector(Frame(np.zeros((*size, 3), np.uint8), 'line')).boxes) == 0


def test_models_without_a_person_head_are_named(tmp_path):
    from sapiens.engine.config import load_config

    pretraining = 'configs/pretrain/sapiens_tiny_mae.py'
    state = MODELS.build(load_config(pretraining).model).state_dict()
    save_plain({'state_dict': state, 'meta': {}}, tmp_path / 'mae.pth')
    with pytest.raises(UserError, match='mae.pth: has no head that finds persons'):
        TinyDetector(model=pretraining, weights=tmp_path / 'mae.pth')
    with pytest.raises(UserError, match='sapiens_tiny_4tasks.*has no head that finds persons'):
        TinyDetector(model='tiny')
    with pytest.raises(UserError, match='persons.*has no head that sees body parts'):
        TinyDetector(refine='sapiens_tiny_persons')
    with pytest.raises(UserError, match="unknown detector 'tinny'; known are tiny, whole"):
        build_detector('tinny')


def test_the_detector_that_ships_finds_the_people_of_a_photograph():
    photo = cv2.imread('demo/images/000000000785.jpg')[..., ::-1]
    found = build_detector('tiny')(Frame(np.ascontiguousarray(photo), 'photo'))
    x, y, w, h = json.loads(Path('tests/data/coco_785.json').read_text())['annotations'][0]['bbox']
    low, high = np.maximum(found.boxes[0, :2], [x, y]), np.minimum(found.boxes[0, 2:], [x + w, y + h])
    common = np.prod((high - low).clip(0))
    assert common / (np.prod(found.boxes[0, 2:] - found.boxes[0, :2]) + w * h - common) > 0.5
