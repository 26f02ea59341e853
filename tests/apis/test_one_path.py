# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""`Inferencer` and ``tools/test.py`` show the network the same pixels and say the same about them."""

import json

import cv2
import numpy as np
import pytest
import torch
from made_photos import photo
from PIL import Image

from sapiens.apis import Frame, Inferencer
from sapiens.engine.config import load_config
from sapiens.errors import UserError
from sapiens.models import HumanEstimator
from sapiens.registry import MODELS

ROOT = 'configs'
KEPT_RATIO = [
    dict(type='LoadImage'),
    dict(type='Resize', keep_ratio=True),
    dict(type='Pad', pad_img=77),
    dict(type='LoadLabels', frame='original'),
    dict(type='PackHumanInputs'),
]


@pytest.fixture
def folder(tmp_path):
    """Two large JPEGs, which are decoded at a fraction of their size (one turned by EXIF), and a PNG; with labels."""
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(photo(1200, 900, 1)).save(tmp_path / 'images/a.jpg', quality=95)
    Image.fromarray(photo(900, 1300, 2)).save(tmp_path / 'images/b.jpg', quality=95, exif=turned)
    Image.fromarray(photo(300, 220, 3)).save(tmp_path / 'images/c.png')
    sizes = {'a': (1200, 900), 'b': (1300, 900), 'c': (300, 220)}
    for name, size in sizes.items():
        cv2.imwrite(str(tmp_path / f'labels/{name}.png'), np.ones(size, np.uint8))
    images = [dict(id=i, file_name=f'{n}.{"png" if n == "c" else "jpg"}', height=h, width=w)
              for i, (n, (h, w)) in enumerate(sizes.items(), 1)]  # fmt: skip
    people = []
    for image in images:
        for share in (0.5, 0.9):
            box = [5.5, 7.25, image['width'] * share, image['height'] * share - 3]
            points = np.ravel([[20 + i, 30 + 2 * i, 2] for i in range(17)]).tolist()
            people.append(dict(id=len(people) + 1, image_id=image['id'], category_id=1, bbox=box, keypoints=points,
                               area=box[2] * box[3], iscrowd=0, num_keypoints=17))  # fmt: skip
    document = dict(images=images, annotations=people, categories=[dict(id=1, name='person')])
    (tmp_path / 'people.json').write_text(json.dumps(document))
    return tmp_path


def shipped_pose(folder):
    data = dict(data_root=str(folder), ann_file=str(folder / 'people.json'), data_prefix=dict(img='images/'))
    loader = dict(num_workers=0, persistent_workers=False, dataset=data)
    evaluator = dict(ann_file=str(folder / 'people.json'))
    return f'{ROOT}/pose/sapiens_tiny_17kpt.py', dict(test_dataloader=loader, test_evaluator=evaluator)


def parts(folder, pipeline=None):
    base = f'{ROOT}/seg/sapiens_tiny_28cls.py'
    data = dict(
        _delete_=True,
        type='ImageLabelFolderDataset',
        data_root=str(folder),
        data_prefix=dict(img='images', parts='labels'),
        input_size=(256, 192),
        labels=('parts',),
        part_vocabulary='parts28',
        test_mode=True,
        pipeline=pipeline or load_config(base).test_pipeline,
    )
    return base, dict(test_dataloader=dict(num_workers=0, persistent_workers=False, dataset=data))


def resized_parts(folder):
    return parts(folder)


def parts_with_kept_ratio(folder):
    return parts(folder, KEPT_RATIO)


@pytest.fixture
def seen(monkeypatch):
    """Every input of an encoder."""
    inputs = []
    extract = HumanEstimator.extract_feat
    monkeypatch.setattr(HumanEstimator, 'extract_feat', lambda m, x: inputs.append(x.float().clone()) or extract(m, x))
    return inputs


@pytest.mark.parametrize('case', [shipped_pose, resized_parts, parts_with_kept_ratio])
def test_the_same_tensors_and_the_same_answers(run_script, folder, seen, case):
    base, changes = case(folder)
    config = load_config(base)
    config.merge_from_dict(changes)
    config.dump(str(folder / 'config.py'))
    torch.manual_seed(0)
    network = MODELS.build({**config.model.to_dict(), 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
    for head in network.heads.values():
        torch.nn.init.normal_(head.final_layer.weight)
    torch.save(network.state_dict(), folder / 'model.pth')
    done = run_script('tools/test.py', folder / 'config.py', folder / 'model.pth', '--device', 'cpu', '--precision',
                      'fp32', '--work-dir', folder / 'work', '--out', folder / 'out')  # fmt: skip
    assert done.code == 0, done.err
    of_test = list(seen)
    seen.clear()
    detector = f'file:{folder}/people.json' if case is shipped_pose else None
    model = Inferencer(folder / 'config.py', folder / 'model.pth', device='cpu', detector=detector, batch_size=8)
    results = list(model(folder / 'images'))
    assert len(seen) == len(of_test) == (2 if case is shipped_pose else 1)
    for ours, theirs in zip(seen, of_test, strict=True):
        assert torch.equal(ours, theirs)
    if case is shipped_pose:
        saved = json.loads((folder / 'out/results_pose.json').read_text())
        found = np.concatenate([r.keypoints.xy for r in results])
        expected = np.array([person['keypoints'] for person in saved]).reshape(-1, 17, 3)[..., :2]
        np.testing.assert_allclose(found, expected, atol=2e-3)
    else:
        for result in results:
            expected = cv2.imread(str(folder / f'out/results_seg/{result.name}.png'), cv2.IMREAD_UNCHANGED)
            assert (result.parts.ids == expected).all()
    if case is parts_with_kept_ratio:
        # 1200 x 900 fits into 256 x 192 as it is; 300 x 220 leaves a margin, which nothing may be stretched over.
        assert ((seen[0][2] - seen[0][2][:, :1, :1]).abs() < 1e-5).all(0).any(0).any(), 'a padded column'


def test_a_pipeline_of_its_own_does_not_squeeze(folder):
    """A wide picture through keep_ratio + pad: the disc in it stays round, and the map is on the picture's pixels."""
    base, changes = parts_with_kept_ratio(folder)
    config = load_config(base)
    config.merge_from_dict(changes)
    config.dump(str(folder / 'config.py'))
    network = MODELS.build({**config.model.to_dict(), 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
    torch.save(network.state_dict(), folder / 'model.pth')
    predictor = Inferencer(folder / 'config.py', folder / 'model.pth', device='cpu').predictors[0]
    image = np.zeros((100, 400, 3), np.uint8)
    cv2.circle(image, (300, 50), 40, (255, 255, 255), -1)
    inputs = []

    def disc(inputs_, flip_test=False, heads=None, rows=None):
        inputs.append(inputs_)
        bright = (inputs_.mean(1, keepdim=True) > 1.5).float()
        return {'seg': torch.cat([1 - bright, bright, torch.zeros(len(inputs_), 26, *inputs_.shape[-2:])], 1)}

    predictor.model.outputs = disc
    found = predictor.predict(image)['parts']
    assert found.shape == (100, 400) and inputs[0].shape[-2:] == (256, 192)
    rows, columns = np.nonzero(found == 1)
    assert abs(np.ptp(columns) - np.ptp(rows)) <= 4 and abs(columns.mean() - 300) < 2 and abs(rows.mean() - 50) < 2


def test_a_transform_that_the_test_pipeline_lacks_is_named(tmp_path):
    """An `Inferencer` ended in a KeyError."""
    config = load_config(f'{ROOT}/seg/sapiens_tiny_28cls.py')
    network = MODELS.build({**config.model.to_dict(), 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
    torch.save(network.state_dict(), tmp_path / 'model.pth')
    for left_out, named in (('LoadImage', 'which LoadImage makes'), ('PackHumanInputs', 'end with PackHumanInputs')):
        pipeline = [step for step in KEPT_RATIO if step['type'] != left_out]
        config.test_dataloader = dict(dataset=dict(pipeline=pipeline, input_size=(256, 192)))
        predictor = Inferencer(config, tmp_path / 'model.pth', device='cpu').predictors[0]
        with pytest.raises(UserError, match=named):
            predictor.prepare(Frame(np.zeros((100, 400, 3), np.uint8), 'wide'))


def test_a_config_as_mmengine_reads_it_will_do(tmp_path):
    """Shipped configs say size and vocabulary once; what follows from that is filled in here as well."""
    from mmengine.config import Config

    config = Config.fromfile('configs/seg/sapiens_tiny_28cls.py')
    config.test_dataloader = dict(dataset=dict(pipeline=KEPT_RATIO))
    before = config.pretty_text
    network = load_config('configs/seg/sapiens_tiny_28cls.py').model.to_dict()
    network = MODELS.build({**network, 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
    torch.save(network.state_dict(), tmp_path / 'model.pth')
    predictor = Inferencer(config, tmp_path / 'model.pth', device='cpu').predictors[0]
    crop = predictor.prepare(Frame(np.full((100, 400, 3), 200, np.uint8), 'wide'))
    assert crop.inputs.shape == (3, 256, 192) and int(crop.inputs[0, 0, 0]) == 77, 'padded, not squeezed'
    assert config.pretty_text == before
