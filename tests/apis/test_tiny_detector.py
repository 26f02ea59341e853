# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The detector on windows: they cover the image, boxes come back to it, cut ones are left to other windows."""

import numpy as np
import pytest
import torch

from sapiens.apis import build_detector
from sapiens.apis.sources import Frame
from sapiens.apis.tiny_detector import TinyDetector, region_boxes, uncut, windows
from sapiens.engine.files import save_plain
from sapiens.errors import UserError
from sapiens.registry import MODELS

CONFIG = 'configs/multitask/sapiens_tiny_4tasks_128x96.py'


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
    made = TinyDetector(levels=1, model=CONFIG, weights=tmp_path / 'model.pth', head='person')

    def outputs(inputs, heads):
        assert heads == ['person'] and inputs.shape[1:] == (3, 128, 96)
        result = torch.full((len(inputs), 5, 32, 24), float(np.log(1 / 6 / 0.15)))
        result[:, 0] = -9
        row, column = (
            inputs.mean(1)[:, 2::4, 2::4].flatten(1).argmax(1) // 24,
            inputs.mean(1)[:, 2::4, 2::4].flatten(1).argmax(1) % 24,
        )
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
    # A third of the first window, which is 640 x 853.
    assert x2 - x1 == pytest.approx(640 / 3, rel=0.05) and y2 - y1 == pytest.approx(853 / 3, rel=0.05)


def test_models_without_a_person_head_are_named(tmp_path):
    from sapiens.engine.config import load_config

    config = load_config(CONFIG)
    del config.model.heads['person']
    torch.manual_seed(0)
    save_plain({'state_dict': MODELS.build(config.model).state_dict(), 'meta': {}}, tmp_path / 'model.pth')
    config.dump(tmp_path / 'config.py')
    with pytest.raises(UserError, match="has no head 'person' that finds persons"):
        TinyDetector(model=tmp_path / 'config.py', weights=tmp_path / 'model.pth', head='person')
    with pytest.raises(UserError, match="unknown detector 'tinny'; known are tiny, whole"):
        build_detector('tinny')


def test_regions_of_parts_are_people():
    logits = torch.zeros(1, 3, 20, 10)
    logits[:, 0] = 5
    logits[0, 1, 2:18, 1:5] = 10  # a large person
    logits[0, 2, 2:4, 7:9] = 10  # a speck
    ((boxes, scores),) = region_boxes(logits, 0.2)
    torch.testing.assert_close(boxes, torch.tensor([[0.1, 0.1, 0.5, 0.9]]))
    assert scores[0] == pytest.approx((16 * 4 / 200) ** 0.5, rel=0.02)
    assert len(region_boxes(logits, 0.05)[0][0]) == 2 and len(region_boxes(torch.zeros(1, 3, 4, 4) - 9, 0.9)[0][0]) == 0
