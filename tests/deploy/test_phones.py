# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Exported files in threads; ExecuTorch's against the model; Core ML's, which only macOS runs; TensorRT's command."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_estimator import estimator

from sapiens.apis import Inferencer
from sapiens.deploy import DeployGraph, check, export_model, open_exported
from sapiens.errors import MissingPackageError, UserError
from sapiens.utils import optional


@pytest.mark.slow
def test_executorch_gives_what_the_model_gives(tmp_path):
    pytest.importorskip('executorch.exir', reason='needs the extra [executorch]')
    graph = export_model(estimator(), dict(pipeline=None), tmp_path / 'small.pte', 'executorch')
    run = open_exported(tmp_path / 'small.pte')[0].run_all
    for difference in check.compare(graph, run, graph.example(5)):
        assert difference.good, difference
    image = np.random.default_rng(0).integers(0, 255, (37, 101, 3), np.uint8)
    assert Inferencer(tmp_path / 'small.pte').predict(image, color='rgb').depth.data.shape == (37, 101)
    (tmp_path / 'half.pte').write_bytes((tmp_path / 'small.pte').read_bytes()[:2000])
    with pytest.raises(UserError, match='half.pte'):
        Inferencer(tmp_path / 'half.pte')


@pytest.mark.slow
def test_core_ml_files_say_what_they_are(tmp_path):
    library = pytest.importorskip('coremltools', reason='needs the extra [coreml]')
    path = tmp_path / 'small.mlpackage'
    for _ in range(2):  # the second time over the first
        graph = export_model(estimator(), dict(pipeline=None), path, 'coreml', 'float16')
    model = library.models.MLModel(str(path), skip_model_load=True)
    told = json.loads(model.user_defined_metadata['sapiens'])
    assert told['input']['size'] == [64, 48]
    names = [output.name for output in model.get_spec().description.output]
    assert names == ['heatmaps', 'part_logits', 'depth', 'normal_vectors'] == graph.output_names
    assert names == [name for task in told['tasks'].values() for name in task['outputs']]
    assert [file.name for file in tmp_path.iterdir()] == ['small.mlpackage']


def test_tensorrt_says_the_command(tmp_path):
    with pytest.raises(UserError, match=r'trtexec --onnx=mine.onnx .*--maxShapes=images:32x3x64x48'):
        export_model(estimator(), {}, tmp_path / 'mine.plan', 'tensorrt')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('format', 'suffix'), [('executorch', '.pte'), ('coreml', '.mlpackage')])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, format, suffix):
    def missing(name):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name.partition('.')[0])

    monkeypatch.setattr(optional.importlib, 'import_module', missing)
    with pytest.raises(MissingPackageError, match=rf'sapiens-toolkit\[{format}\]'):
        export_model(estimator(), {}, tmp_path / f'a{suffix}', format)
    assert not list(tmp_path.iterdir())


def test_an_image_of_floats_gives_the_same():
    graph = DeployGraph(estimator())
    for ours, theirs in zip(graph(graph.example(1)), graph(graph.example(1).float()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('format', 'suffix', 'packages'),
    [
        ('onnx', '.onnx', ('onnxscript', 'onnxruntime')),
        ('openvino', '.xml', ('openvino',)),
        ('executorch', '.pte', ('executorch.exir',)),
    ],
)
def test_threads_that_share_an_open_file_get_their_own_results(tmp_path, format, suffix, packages):
    for package in packages:
        pytest.importorskip(package, reason='needs the extra [export]')
    model, path = estimator(), tmp_path / f'small{suffix}'
    export_model(model, dict(pipeline=None), path, format)
    run = open_exported(path)[0].run_all
    size = tuple(model.backbone.img_size)
    images = [np.full((1, 3, *size), 16 * i, np.uint8) + np.arange(size[1], dtype=np.uint8) for i in range(8)]
    alone = list(map(run, images))
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone * 4, pool.map(run, images * 4), strict=True):
            for name, values in one.items():
                np.testing.assert_array_equal(other[name], values)
