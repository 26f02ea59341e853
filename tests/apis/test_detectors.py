# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Detectors: boxes in, boxes out, in the image's pixels; each library asked for only when needed."""

import importlib.util
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from made_photos import photo

from sapiens.apis import Detections, Frame, build_detector
from sapiens.apis.detectors import find_persons, suppress
from sapiens.apis.library_detectors import LibraryDetector
from sapiens.apis.loading import choose_device
from sapiens.errors import MissingPackageError, UserError
from sapiens.registry import DETECTORS

FRAME = Frame(photo(120, 90), 'a')


def installed(name):
    return importlib.util.find_spec(name) is not None


def test_default_is_one_person_who_fills_the_image():
    found = build_detector()(FRAME)
    assert found.boxes.tolist() == [[0, 0, 89, 119]] and found.scores.tolist() == [1]


def test_boxes_as_they_are_and_own_detectors():
    assert build_detector([1, 2, 30, 40])(FRAME).boxes.tolist() == [[1, 2, 30, 40]]
    mine = Detections(np.zeros((0, 4)), np.zeros(0))
    assert build_detector(lambda frame: mine)(FRAME) is mine
    with pytest.raises(UserError, match='x2 > x1'):
        build_detector([[30, 2, 1, 40]])
    with pytest.raises(UserError, match='boxes are x1,y1,x2,y2'):
        build_detector([[1, 2, 3]])

    @DETECTORS.register_module(force=True)
    class Corner:
        def __init__(self, size):
            self.size = size

        def __call__(self, frame):
            return Detections(np.array([[0, 0, self.size, self.size]], np.float32), np.ones(1, np.float32))

    assert build_detector(dict(type='Corner', size=7))(FRAME).boxes.tolist() == [[0, 0, 7, 7]]


@pytest.mark.parametrize('kind', ['plain', 'annotations', 'results'])
def test_boxes_from_a_file(tmp_path, kind):
    name, number = 'photos/000000000785.jpg', 785
    entry = dict(image_id=number, category_id=1, bbox=[5, 6, 20, 30])
    document = {
        'plain': {name: [[5, 6, 25, 36, 0.9], [0, 0, 9, 9, 0.1]]},
        'annotations': dict(images=[dict(id=number, file_name=name)], annotations=[entry]),
        'results': [
            {**entry, 'score': 0.9},
            {**entry, 'bbox': [0, 0, 9, 9], 'score': 0.1},
            {**entry, 'category_id': 2},
        ],
    }[kind]
    (tmp_path / 'boxes.json').write_text(json.dumps(document))
    detector = build_detector(f'file:{tmp_path}/boxes.json')
    found = detector(Frame(FRAME.image, '000000000785'))
    assert found.boxes.tolist() == [[5, 6, 25, 36]]
    assert len(detector(Frame(FRAME.image, 'other')).boxes) == 0


def coco(names, categories):
    images = [dict(id=i, file_name=name) for i, name in enumerate(names)]
    people = [
        dict(id=i, image_id=i, category_id=categories[-1]['id'], bbox=[10 * i, 5, 20, 30]) for i in range(len(names))
    ]
    return dict(images=images, annotations=people, categories=categories)


def test_a_box_file_that_is_of_other_images_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('sapiens.apis.detectors.print_log', lambda note, **_: said.append(note))
    path = tmp_path / 'boxes.json'
    for name, size in (('a.jpg', (90, 120)), ('a.jpg', (60, 45)), ('other.jpg', (120, 90))):
        document = coco([name], PERSON)
        document['images'][0].update(height=size[0], width=size[1])
        path.write_text(json.dumps(document))
        detector = build_detector(f'file:{path}')
        if name == 'a.jpg':
            reason = 'height and width are exchanged' if size == (90, 120) else 'resized after labelling'
            with pytest.raises(UserError, match=f'a.jpg: is 120 x 90 .* {size[0]} x {size[1]}: .*{reason}'):
                detector(Frame(FRAME.image, 'a', tmp_path / 'a.jpg'))
        else:
            assert len(detector(Frame(FRAME.image, 'a')).boxes) == len(detector(Frame(FRAME.image, 'b')).boxes) == 0
            assert [note.partition(': ')[2] for note in said] == ['does not list a, so nobody is looked for there']


@pytest.mark.parametrize('box', [[500, 500, 600, 600], [0.1, 0.2, 0.6, 0.9], [95, 5, 200, 60], [20, 20, 21, 90]])
def test_boxes_that_show_nothing_of_the_image_are_named(tmp_path, monkeypatch, box):
    said, good = [], [10, 10, 60, 100]
    monkeypatch.setattr('sapiens.apis.detectors.print_log', lambda note, **_: said.append(note))
    with pytest.raises(UserError, match=r'a box shows nothing of a \(width 90, height 120\); boxes are .* in pixels'):
        build_detector([good, box])(FRAME)
    (tmp_path / 'boxes.json').write_text(json.dumps({'a.jpg': [box, good], 'b.jpg': None}))
    detector = build_detector(f'file:{tmp_path}/boxes.json')
    assert detector(FRAME).boxes.tolist() == [good] and len(detector(Frame(FRAME.image, 'b')).boxes) == 0
    assert len(said) == 1 and 'boxes.json: a box shows nothing of a' in said[0]


PERSON = [dict(id=1, name='person')]
PLAIN = {'clip1/000001.jpg': [[1, 2, 30, 40]], 'clip2/000001.jpg': [[5, 6, 50, 60]]}


@pytest.mark.parametrize(
    'document', [PLAIN, coco(['clip1/000001.jpg', 'clip2/000001.jpg'], PERSON)], ids=['plain', 'coco']
)
def test_equal_names_in_two_folders_are_told_apart_by_their_paths(tmp_path, document):
    (tmp_path / 'boxes.json').write_text(json.dumps(document))
    detector = build_detector(f'file:{tmp_path}/boxes.json')
    found = [
        detector(Frame(FRAME.image, '000001', tmp_path / f'photos/clip{i}/000001.jpg')).boxes.tolist() for i in (1, 2)
    ]
    assert len(found[0]) == len(found[1]) == 1 and found[0] != found[1]
    with pytest.raises(UserError, match="boxes.json: .*000001.*may be 'clip1/000001.jpg' or 'clip2/000001.jpg'"):
        detector(Frame(FRAME.image, '000001'))


@pytest.mark.parametrize(
    ('categories', 'count'),
    [
        ([dict(id=0, name='person')], 1),
        ([dict(id=1, name='car'), dict(id=2, name='Person')], 1),
        ([dict(id=1, name='car'), dict(id=7, name='someone', keypoints=['nose'])], 1),
        ([dict(id=3, name='worker')], 1),
        ([dict(id=1, name='car'), dict(id=2, name='tree')], None),
    ],
)
def test_persons_are_the_files_own_category(tmp_path, categories, count):
    (tmp_path / 'boxes.json').write_text(json.dumps(coco(['a.jpg'], categories)))
    if count is None:
        with pytest.raises(UserError, match='none of its categories is a person: car .1., tree .2.'):
            build_detector(f'file:{tmp_path}/boxes.json')
        return
    detector = build_detector(f'file:{tmp_path}/boxes.json')
    assert len(detector(Frame(FRAME.image, 'a', tmp_path / 'a.jpg')).boxes) == count


def test_frames_of_a_video_have_boxes_by_their_names(tmp_path):
    (tmp_path / 'boxes.json').write_text(json.dumps({'v_000003': [[1, 2, 30, 40]]}))
    detector = build_detector(f'file:{tmp_path}/boxes.json')
    frames = [Frame(FRAME.image, f'v_{i:06d}', tmp_path / 'v.mp4', i, i / 25) for i in range(5)]
    assert [len(detector(frame).boxes) for frame in frames] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'no such file of boxes'),
        ('{', 'not valid JSON'),
        ('[1]', 'result 0 lacks bbox, image_id'),
        ('{"a": 3}', "'a' has no list of boxes"),
    ],
)
def test_bad_files_of_boxes(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'b.json').write_text(text)
    with pytest.raises(UserError, match=f'b.json: {message}'):
        build_detector(f'file:{tmp_path}/b.json')


def test_unknown_detector():
    with pytest.raises(UserError, match="unknown detector 'yolo'; known are tiny, whole, file, torchvision"):
        build_detector('yolo')


@pytest.mark.parametrize('spec', ['tiny:much', 'file', 'whole:1,2', 'file:a.json,b,c,d,e'])
def test_wrong_arguments_of_a_detector_are_one_line(spec):
    with pytest.raises(UserError, match=f"the detector '{spec}' cannot be made") as caught:
        build_detector(spec)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('tiny:nan', "a detector's threshold is nan; give a number of at least 0 and at most 1"),
        ('tiny:30', "a detector's threshold is 30.0; give a number of at least 0 and at most 1"),
        ('tiny:0.3,0', 'levels of the detector is 0; give a whole number of at least 1'),
        ('file:{boxes},nan', "a detector's threshold is nan; give a number of at least 0"),
    ],
)
def test_a_threshold_with_which_nobody_would_be_found_is_refused(tmp_path, spec, message):
    (tmp_path / 'boxes.json').write_text('{"a.jpg": [[0, 0, 9, 9]]}')
    with pytest.raises(UserError) as caught:
        build_detector(spec.format(boxes=tmp_path / 'boxes.json'))
    assert str(caught.value) == message
    with pytest.raises(UserError, match="a detector's threshold is 50.0"):
        LibraryDetector(None, 50, 'cpu')


@pytest.mark.parametrize(
    'boxes',
    [
        [[0, 0, 10, 10, 20]] * 4,
        [0, 0, 10, 10, 5, 5, 20, 20],
        np.tile([0, 0, 10, 10, 20, 30], (2, 1)),
        7,
        [[0, 0, 10, 10], [0, 0, 10]],
    ],
)
def test_boxes_have_four_numbers_each(boxes):
    """Four boxes with scores were taken for five others."""
    with pytest.raises(UserError, match='boxes are x1,y1,x2,y2, not'):
        build_detector(boxes)
    frame = Frame(np.zeros((40, 30, 3), np.uint8), 'a')
    with pytest.raises(UserError, match='the detector gave boxes for a that are no rows of x1, y1, x2, y2'):
        find_persons(lambda _: Detections(boxes, np.ones(5)), frame)


def test_suppression_keeps_the_best_of_each_heap():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [0, 0, 10, 9]], np.float32)
    assert suppress(boxes, 0.5).tolist() == [0, 2]


@pytest.mark.parametrize('spec', ['hog', 'hog:0.5', dict(type='HOGDetector'), dict(type='sapiens.HOGDetector')])
def test_a_detector_that_is_gone_says_what_to_use_instead(spec):
    with pytest.raises(UserError, match="(hog|HOGDetector).*is gone; use 'tiny'"):
        build_detector(spec)


@pytest.mark.parametrize('name', ['torchvision', 'transformers', 'ultralytics'])
def test_missing_library_says_what_to_install(monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda n, *a: None if n.startswith(name) else real(n, *a))
    monkeypatch.setitem(sys.modules, name, None)
    if name == 'torchvision':
        monkeypatch.setitem(sys.modules, 'torchvision.models.detection', None)
    with pytest.raises(MissingPackageError, match=f"pip install '{name}'"):
        build_detector(f'{name}:x')


def test_no_library_is_imported_before_it_is_asked_for():
    # (mmengine itself imports transformers where it is installed.)
    code = 'import sys, sapiens.apis; print([n for n in ("mmdet", "ultralytics", "av") if n in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('[]')


@pytest.mark.skipif(not installed('torchvision'), reason='torchvision is not installed')
def test_torchvision_weights_that_do_not_fit(tmp_path):
    torch.save({'a': torch.zeros(1)}, tmp_path / 'w.pth')
    with pytest.raises(UserError, match="w.pth: not the weights of torchvision's ssdlite320_mobilenet_v3_large"):
        build_detector(f'torchvision:ssdlite320_mobilenet_v3_large,{tmp_path}/w.pth')
    with pytest.raises(UserError, match="torchvision has no detector 'frcnn'"):
        build_detector('torchvision:frcnn')


@pytest.mark.parametrize('cuda, mps, chosen', [(True, True, 'cuda'), (False, True, 'mps'), (False, False, 'cpu')])
def test_detectors_run_where_models_do(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: mps)
    assert choose_device().type == LibraryDetector(None, 0.5, 'auto').device.type == chosen
    if not cuda:
        with pytest.raises(UserError, match="device 'cuda': PyTorch sees none here"):
            LibraryDetector(None, 0.5, 'cuda')


@pytest.mark.skipif(not installed('torchvision'), reason='torchvision is not installed')
def test_torchvision_boxes_of_persons(monkeypatch):
    from sapiens.openmmlab import prepare_torchvision

    prepare_torchvision()
    import torchvision.models.detection as models

    class Two(torch.nn.Module):
        def forward(self, images):
            assert images[0].shape == (3, 120, 90) and images[0].max() <= 1
            boxes = torch.tensor([[1.0, 2, 30, 40], [5, 5, 50, 90], [0, 0, 9, 9]])
            return [dict(boxes=boxes, labels=torch.tensor([1, 1, 3]), scores=torch.tensor([0.6, 0.9, 0.99]))]

    monkeypatch.setattr(models, 'two', lambda weights: Two(), raising=False)
    assert build_detector('torchvision:two')(FRAME).boxes.tolist() == [[5, 5, 50, 90], [1, 2, 30, 40]]


@pytest.mark.skipif(not installed('transformers'), reason='transformers is not installed')
def test_rt_detr_from_a_folder(tmp_path):
    """A tiny RT-DETR with random weights: the plumbing, from the folder to boxes inside the image."""
    from sapiens.openmmlab import prepare_torchvision

    prepare_torchvision()
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type='basic',
                                  out_features=['stage2', 'stage3', 'stage4'])  # fmt: skip
    config = RTDetrConfig(backbone_config=backbone, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=16,
                          encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, decoder_in_channels=[16, 16, 16],
                          decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_queries=20,
                          num_labels=2, id2label={0: 'person', 1: 'dog'}, num_denoising=0)  # fmt: skip
    model = RTDetrForObjectDetection(config)
    for head in model.model.decoder.class_embed:  # surely persons, all 20
        torch.nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor([2.0, -2.0])
    model.save_pretrained(tmp_path)
    RTDetrImageProcessor(size=dict(height=64, width=64)).save_pretrained(tmp_path)
    found = build_detector(dict(type='TransformersDetector', name=str(tmp_path), threshold=0.0))(FRAME)
    assert 10 < len(found.boxes) <= 20 and np.allclose(found.scores, 0.881, atol=1e-3)
    assert (found.boxes >= 0).all() and (found.boxes[:, 2] <= 89).all() and (found.boxes[:, 3] <= 119).all()
    config.id2label = {0: 'cat', 1: 'dog'}
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no class 'person'"):
        build_detector(f'transformers:{tmp_path}')


@pytest.mark.skipif(not installed('transformers'), reason='transformers is not installed')
def test_transformers_model_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match='cannot be loaded'):
        build_detector(f'transformers:{tmp_path}')


def test_ultralytics_boxes(monkeypatch, tmp_path):
    class YOLO:
        def __init__(self, weights):
            assert weights.endswith('w.pt')

        def predict(self, picture, classes, conf, device, verbose):
            assert (picture[..., ::-1] == FRAME.image).all() and classes == [0]
            return [types.SimpleNamespace(boxes=types.SimpleNamespace(xyxy=torch.tensor([[1.0, 2, 30, 400]]),
                                                                      conf=torch.tensor([0.8])))]  # fmt: skip

    monkeypatch.setitem(sys.modules, 'ultralytics', types.SimpleNamespace(YOLO=YOLO))
    with pytest.raises(UserError, match='none.pt: no such weights'):
        build_detector('ultralytics:none.pt')
    (tmp_path / 'w.pt').write_bytes(b'x')
    assert build_detector(f'ultralytics:{tmp_path}/w.pt')(FRAME).boxes.tolist() == [[1, 2, 30, 119]]


@pytest.mark.openmmlab
@pytest.mark.skipif(not installed('mmdet'), reason='mmdet is not installed')
def test_mmdet_needs_config_weights_and_operators(tmp_path):
    with pytest.raises(UserError, match='mmdet:CONFIG,CHECKPOINT'):
        build_detector('mmdet')
    if not installed('mmcv._ext'):
        with pytest.raises(MissingPackageError, match='compiled operators of mmcv'):
            build_detector('mmdet:rtmdet.py,rtmdet.pth')
