# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files of ONNX and OpenVINO against the model that they were made of, and broken ones. The extras are optional."""

import copy
import pickle

import numpy as np
import pytest
import torch
from small_estimator import estimator

from sapiens.apis import Inferencer
from sapiens.deploy import check, export_model, open_exported
from sapiens.errors import UserError

pytest.importorskip('onnxruntime', reason='needs the extra [export]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')

OWN = (
    '{"name": "mine", "kind": "keypoints", "keypoints": [{"name": "left_tip"}, {"name": "right_tip"}, {"name": "end"}]}'
)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('exported')
    (folder / 'mine.json').write_text(OWN)
    graph = export_model(estimator(str(folder / 'mine.json')), dict(pipeline=None), folder / 'small.onnx')
    return graph, folder / 'small.onnx'


def test_every_output_is_that_of_the_model(files):
    graph, path = files
    for difference in check.compare(graph, open_exported(path)[0].run_all, graph.example(5)):
        assert difference.good, difference


def test_own_vocabulary_flip_test_and_odd_photos(files):
    graph, path = files
    for flip_test in (False, True):
        ours = Inferencer(path, flip_test=flip_test)
        assert ours.predictors[0].heads['pose'].vocabulary.names == ('left_tip', 'right_tip', 'end')
        image = np.random.default_rng(0).integers(0, 255, (37, 101, 3), np.uint8)
        result = ours.predict(image, color='rgb')
        crop = ours.predictors[0].prepare(_frame(image), [0, 0, 100, 36])
        inputs = graph.model.data_preprocessor({'inputs': [crop.inputs]})['inputs']
        expected = graph.model.outputs(inputs, flip_test)
        found = ours.predictors[0].model.outputs(crop.inputs[None], flip_test)
        for task, output in expected.items():
            if found[task].shape == output.shape:  # depth comes at the input's size
                torch.testing.assert_close(found[task], output, atol=1e-4, rtol=0)
        assert result.depth.data.shape == (37, 101)


def _frame(image):
    from sapiens.apis import Frame

    return Frame(image, 'image')


def test_broken_and_foreign_files_are_one_line(files, tmp_path):
    import onnx

    content = files[1].read_bytes()
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    bad = {
        'empty': b'',
        'junk': b'\x89PNG' * 50,
        'half': content[: len(content) // 2],
        'foreign': foreign.SerializeToString(),
    }
    for name, data in bad.items():
        path = tmp_path / f'{name}.onnx'
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            Inferencer(path)
        assert str(path) in str(error.value) and '\n' not in str(error.value), name


@pytest.mark.parametrize('dtype', ['float32', 'int8', 'int8-weights'])
def test_openvino(files, tmp_path, dtype):
    pytest.importorskip('openvino', reason='needs the extra [export]')
    if dtype != 'float32':
        pytest.importorskip('nncf', reason='needs the extra [export]')
    graph, path = files[0], tmp_path / 'small.xml'
    images = graph.example(4)
    export_model(graph.model, dict(pipeline=None), path, 'openvino', dtype, images=images)
    assert {file.name for file in tmp_path.iterdir()} == {'small.xml', 'small.bin'}
    estimator = open_exported(path)[0]
    for difference in check.compare(graph, estimator.run_all, images, exact=dtype == 'float32'):
        assert difference.good, difference
        if dtype != 'float32' and difference.name == 'normals':
            # Random weights on noise: 0.1; of vectors that have nothing to do with each other it is 0.6.
            assert 0 < difference.median < 0.3, difference
    assert Inferencer(path).predict(np.zeros((20, 30, 3), np.uint8), color='rgb').depth.data.shape == (20, 30)
    for name, content in (('half', path.read_bytes()[:2000]), ('empty', b'')):
        (tmp_path / f'{name}.xml').write_bytes(content)
        with pytest.raises(UserError, match=f'{name}.xml'):
            Inferencer(tmp_path / f'{name}.xml')
    with pytest.raises(UserError, match='not in bfloat16'):
        export_model(graph.model, dict(pipeline=None), path, 'openvino', 'bfloat16')


def test_what_an_exported_file_cannot_do_is_said(files, tmp_path):
    model = Inferencer(files[1])
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(UserError, match='small.onnx: an exported file .* no features'):
        next(model.extract(image, color='rgb'))
    with pytest.raises(UserError, match='small.onnx: an exported file .* no features'):
        model.predictors[0].model.extract_feat(torch.zeros(1, 3, 64, 48))
    with pytest.raises(UserError, match='small.onnx: is exported already'):
        export_model(model.predictors[0].model, dict(pipeline=None), tmp_path / 'again.onnx')


def test_a_suffix_in_capitals_is_the_same_format(files, tmp_path):
    path = tmp_path / 'SMALL.ONNX'
    path.write_bytes(files[1].read_bytes())
    assert Inferencer(path).tasks == Inferencer(files[1]).tasks


def test_an_inferencer_of_a_file_goes_to_other_processes(files):
    model, image = Inferencer(files[1], dtype='float32'), np.full((20, 30, 3), 90, np.uint8)
    expected = model.predict(image, color='rgb')
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        found = other.predict(image, color='rgb')
        np.testing.assert_array_equal(found.keypoints.xy, expected.keypoints.xy)
        assert other.predictors[0].model.session._chosen == model.predictors[0].model.session._chosen


def test_a_bfloat16_file_is_valid_and_says_where_it_does_not_run(files, tmp_path):
    import onnx

    graph, path = files[0], tmp_path / 'half.onnx'
    try:
        export_model(graph.model, dict(pipeline=None), path, dtype='bfloat16')
    finally:
        graph.model.set_precision(torch.float32)
    onnx.checker.check_model(str(path), full_check=True)
    try:
        open_exported(path)  # once onnxruntime can
    except UserError as error:
        assert 'export it in float32' in str(error)


def test_int8_needs_photographs(files, tmp_path):
    pytest.importorskip('openvino', reason='needs the extra [export]')
    with pytest.raises(UserError, match='give a folder with --calibration'):
        export_model(files[0].model, dict(pipeline=None), tmp_path / 'a.xml', 'openvino', 'int8')
    assert not list(tmp_path.iterdir())


def test_the_command_writes_checks_and_does_not_overwrite(tmp_path, run_script):
    out = tmp_path / 'tiny.onnx'
    done = run_script('tools/export.py', 'tiny', '--out', out, '--task', 'pose', 'seg', '--check')
    assert done.code == 0, done.err
    assert 'written' in done.out and 'FAILED' not in done.out and 'keypoints' in done.out
    assert run_script('tools/export.py', 'tiny', '--out', out).err.startswith(f'error: {out}: exists already')
    assert open_exported(out)[0].facts['licence'].startswith('Apache-2.0')
