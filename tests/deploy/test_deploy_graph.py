# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The graph that is exported, what a file says about itself, and files that say something else; needs no extra."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from small_estimator import BACKBONE, HEADS, estimator

from sapiens.apis import Inferencer
from sapiens.apis.loading import load_model
from sapiens.deploy import DeployGraph, export, export_model, facts, runner
from sapiens.engine.checkpoint import read_checkpoint
from sapiens.errors import UserError
from sapiens.models import DepthHead
from sapiens.models.estimators.closer_look import CloserLook
from sapiens.structures import HumanDataSample

DATASET = dict(
    input_size=(64, 48),
    pipeline=[
        dict(type='PersonBox', padding=1.1), dict(type='LoadImage'), dict(type='TopdownAffine'),
        dict(type='LoadLabels'), dict(type='PackHumanInputs'),
    ],
)  # fmt: skip


@pytest.fixture(scope='module')
def graph():
    return DeployGraph(estimator())


def by_name(graph, outputs):
    return dict(zip(graph.output_names, outputs, strict=True))


def test_outputs_are_the_predictions_of_the_model(graph):
    images = graph.example(2)
    found = by_name(graph, graph(images))
    inputs = graph.model.data_preprocessor({'inputs': images})['inputs']
    for i, sample in enumerate(graph.model.predict(inputs, [HumanDataSample() for _ in images])):
        torch.testing.assert_close(found['keypoints'][i], sample.pred_keypoints)
        torch.testing.assert_close(found['keypoint_scores'][i], sample.pred_keypoint_scores)
        torch.testing.assert_close(found['depth'][i], sample.pred_depth)
        torch.testing.assert_close(found['normals'][i], sample.pred_normals)
        assert torch.equal(found['parts'][i], sample.pred_part_map)


def test_torch_export_takes_any_batch_and_decodes_its_own_maps(graph, tmp_path):
    exported = export.trace(graph)
    text = facts.dumps(facts.describe(graph, DATASET, 'float32', 'mine'))
    torch.export.save(exported, tmp_path / 'own.pt2', extra_files={facts.KEY: text})
    model = dict(type='HumanEstimator', backbone={**BACKBONE, 'img_size': (128, 96)}, heads=HEADS)
    other = Config(dict(model=model, test_dataloader=dict(dataset=dict(input_size=(128, 96)))))
    own = Inferencer(other, str(tmp_path / 'own.pt2')).predictors[0]
    assert own.input_size == own.model.backbone.img_size == (64, 48), 'a program has the size that it was made for'
    program = exported.module()
    for batch in (1, 3):
        images = graph.example(batch)
        found, expected = by_name(graph, program(images)), by_name(graph, graph(images))
        torch.testing.assert_close(found['heatmaps'], expected['heatmaps'])
        torch.testing.assert_close(found['normals'], expected['normals'])
        points, scores = graph.model.heads['pose'].codec.decode(found['heatmaps'])
        torch.testing.assert_close(found['keypoints'], points, atol=0.02, rtol=0)
        torch.testing.assert_close(found['keypoint_scores'], scores)


class Session:
    """Runs the graph itself, so that the runner is tested without any library."""

    graph, text, channel = None, None, {}

    def __init__(self, path):
        self.ran = []

    def metadata(self):
        return self.text

    def channels(self):
        with torch.no_grad():
            found = by_name(self.graph, self.graph(self.graph.example(1)))
        return {**{name: value.shape[1] for name, value in found.items()}, **self.channel}

    def prepare(self, device, dtype):
        pass

    def run(self, images, names):
        self.ran.append((len(images), tuple(names)))
        with torch.no_grad():
            found = by_name(self.graph, self.graph(torch.from_numpy(images)))
        return {name: found[name].numpy() for name in names}


@pytest.fixture
def file(graph, tmp_path, monkeypatch):
    """A file of a format that the runner opens with `Session`."""
    monkeypatch.setitem(runner.SESSIONS, '.fake', Session)
    monkeypatch.setattr(Session, 'graph', graph)
    monkeypatch.setattr(Session, 'text', facts.dumps(facts.describe(graph, DATASET, 'float32', 'mine')))
    path = tmp_path / 'model.fake'
    path.touch()
    return path


@pytest.mark.parametrize('flip_test', [False, True])
@pytest.mark.parametrize('size', [(97, 61), (33, 120)])
def test_a_file_runs_as_its_model_does(file, graph, flip_test, size, monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    ours = Inferencer(str(file), flip_test=flip_test)
    assert ours.predictors[0]._person.transforms[0].padding == 1.1
    assert ours.tasks == ('pose', 'seg', 'depth', 'normal')
    assert ours.predictors[0].heads['pose'].vocabulary.names == graph.model.heads['pose'].vocabulary.names
    found, frame = (
        ours.predict(image, color='rgb'),
        ours.predictors[0].prepare(_frame(image), [0, 0, size[1] - 1, size[0] - 1]),
    )
    inputs = graph.model.data_preprocessor({'inputs': [frame.inputs]})['inputs']
    (scored,) = graph.model.predict(inputs, [HumanDataSample(metainfo=frame.sample.metainfo)])
    assert 'pred_part_map' in scored and 'pred_person' not in scored, 'nobody but sapiens.apis reads it'
    monkeypatch.setattr(graph.model.heads['seg'], 'outlines', True)
    expected = graph.model.predict(inputs, [frame.sample], flip_test=flip_test)[0]
    np.testing.assert_allclose(found.keypoints[0].xy, expected.pred_keypoints, atol=1e-3)
    predictor = ours.predictors[0]
    (mine,) = predictor.predict_tensor(
        predictor.inputs_of([frame.inputs]), [type(frame.sample)(metainfo=frame.sample.metainfo)]
    )
    for name in ('pred_part_map', 'pred_person', 'pred_depth', 'pred_normals'):
        np.testing.assert_allclose(mine.get(name), expected.get(name), atol=1e-4)


def _frame(image):
    from sapiens.apis import Frame

    return Frame(image, 'image')


def test_a_file_looks_closer_where_its_model_does(graph, file, monkeypatch):
    look = dict(around=['nose', 'left_eye'], extent=3.0)
    monkeypatch.setitem(graph.model.test_cfg, 'closer_look', look)
    monkeypatch.setattr(Session, 'text', facts.dumps(facts.describe(graph, DATASET, 'float32', 'mine')))
    looked = []
    monkeypatch.setattr(CloserLook, '__call__', lambda self, inputs, *_: looked.append((self.extent, inputs.dtype)))
    ours = Inferencer(weights=file)
    ours.predict(np.zeros((64, 48, 3), np.uint8), color='rgb')
    assert looked == [(3.0, torch.uint8)] and ours.predictors[0].model.test_cfg['closer_look'] == look


def test_only_what_is_asked_for_is_run(file):
    ours = Inferencer(weights=file)
    ours.predict(np.zeros((64, 48, 3), np.uint8), tasks='depth', color='rgb')
    assert ours.predictors[0].model.session.ran == [(1, ('depth',))]


def change(**edits):
    """Metadata with a value replaced: ``a__b=1`` is ``facts['a']['b'] = 1``."""

    def apply(text):
        document = copy.deepcopy(json.loads(text))
        for place, value in edits.items():
            *folders, last = place.split('__')
            part = document
            for name in folders:
                part = part[int(name)] if name.isdigit() else part[name]
            part[last] = value
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda _: None, 'does not say what it is'),
        (lambda text: text[:100], 'damaged'),
        (lambda _: '[]', 'damaged'),
        (lambda _: '{}', 'damaged'),
        (change(tasks={}), 'no tasks'),
        (change(input__size=[0, 48]), 'size 0 x 48'),
        (change(input__size=['a', 48]), 'size a x 48'),
        (change(normalised_inside__std=[1, 2]), 'not three numbers'),
        (change(tasks__pose__head='Sequential'), 'damaged'),
        (change(tasks__pose__outputs=['depth']), 'outputs of pose'),
        (change(tasks__pose__codec__type='os.system'), 'codec of pose'),
        (change(tasks__pose__codec__sigma='wide'), "damaged .UDPHeatmap.sigma is 'wide'"),
        (change(tasks__seg__vocabulary__classes=[{'name': 'one'}]), 'has 28 channels, its vocabulary 1'),
        (change(tasks__pose__vocabulary__kind='parts'), 'model.fake'),
        (change(tasks__seg__rules={'loss': 1}), 'rules of seg'),
        (change(tasks__seg__rules={'least_region': 'all'}), 'rules of seg'),
        (change(closer_look={'around': ['chin']}), "no keypoint or group 'chin'"),
        (change(closer_look={'at': ['nose']}), 'closer_look is .* give None, or a dict'),
        (change(closer_look='face'), 'closer_look is .* give None, or a dict'),
        (change(pipeline=[dict(type='os.system', command='true')]), "needs the transform 'os.system'"),
        (change(pipeline=[dict(type='PersonBox', wide=3)]), 'unexpected keyword'),
        (change(pipeline=[[]]), 'damaged'),
    ],
)
def test_a_file_that_says_something_else_is_one_line(file, monkeypatch, edit, message):
    monkeypatch.setattr(Session, 'text', edit(Session.text))
    with pytest.raises(UserError, match=message) as error:
        runner.open_exported(file)
    assert 'model.fake' in str(error.value) and '\n' not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match=r'none.onnx: no such file'):
        Inferencer(tmp_path / 'none.onnx')


def test_what_cannot_be_exported_is_said(graph, tmp_path):
    for tasks, message in ((('age',), "no head 'age'"), (('pose', 'depth'), None)):
        if message:
            with pytest.raises(UserError, match=message):
                DeployGraph(graph.model, tasks)
        else:
            assert DeployGraph(graph.model, tasks).output_names[-1] == 'depth'
    with pytest.raises(UserError, match='encoder without heads'):
        DeployGraph(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match=r'onnx end in .onnx'):
        export_model(graph.model, DATASET, tmp_path / 'a.pt', 'onnx')
    model = estimator()
    for method in ('predict', 'fields', 'flip_back'):
        own = type('OwnHead', (DepthHead,), {method: lambda *_: {}})
        model.heads['depth'] = own(32, (8,), (8,))
        with pytest.raises(UserError, match=r"'depth' \(OwnHead\)"):
            DeployGraph(model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['.onnx', '.xml', '.pte'])
def test_a_file_holds_its_weights_and_is_no_checkpoint(tmp_path, suffix):
    file = tmp_path / f'small{suffix}'
    file.write_bytes(b'<?xml version="1.0"?>' if suffix == '.xml' else b'\x08\x0a\x12\x07pytorch')
    with pytest.raises(UserError, match='an exported model, which Inferencer and sapiens predict --model run'):
        read_checkpoint(file)
    with pytest.raises(UserError, match='holds its weights; leave out those of other.pth'):
        load_model(str(file), weights='other.pth')


@pytest.mark.parametrize('suffix', ['.pth', '.pt2', '.bin'])
def test_every_file_of_weights_stands_for_its_model(tmp_path, suffix):
    with pytest.raises(UserError, match=f'gone{suffix}: no such checkpoint'):
        load_model(str(tmp_path / f'gone{suffix}'))
