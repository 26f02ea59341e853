# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""``tools/test.py`` prints the tables, and what it saves gives the same tables without the model."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import run_tool
from mmengine.evaluator import Evaluator
from people import COCO, read_coco, samples_of
from test_normal import ball

from sapiens.datasets import ManifestWriter
from sapiens.errors import UserError
from sapiens.evaluation import EvaluationReport, evaluator_for_test, finish_test
from sapiens.evaluation.base import HumanMetric
from sapiens.evaluation.tables import Table
from sapiens.registry import METRICS, MODELS

ROOT = Path(__file__).parents[2]


def test_options_reach_our_metrics_only(tmp_path):
    theirs = dict(type='mmseg.IoUMetric') if 'mmseg.IoUMetric' in METRICS else dict(type='MAELoss')
    config = [dict(type='KeypointAP', vocabulary='wholebody133', score_mode='bbox'), dict(type='PCK'), theirs]
    found = evaluator_for_test(config, tmp_path, bootstrap=9, keep_worst=2)
    assert found[0] == {**config[0], 'bootstrap': 9, 'keep_worst': 2} and found[2] == theirs
    # One file of keypoints, in the first metric's vocabulary and with its scores.
    assert len(found) == 4 and found[3]['vocabulary'] == 'wholebody133' and found[3]['score_mode'] == 'bbox'
    assert 'bootstrap' not in config[0]
    (_, saver) = evaluator_for_test(dict(type='CocoMetric', keypoint_score_thr=0.3), tmp_path)
    assert saver['keypoint_threshold'] == 0.3
    assert evaluator_for_test(dict(type='PartIoU')) == [dict(type='PartIoU')]
    for whole in (dict(type='Evaluator', metrics=config), dict(metrics=config), dict(metrics=config[0])):
        expected = config if isinstance(whole['metrics'], list) else config[:1]
        assert evaluator_for_test(whole) == expected
    with pytest.raises(UserError, match="a metric of test_evaluator needs a 'type'"):
        evaluator_for_test([dict(vocabulary='coco17')])


def test_an_option_of_the_metric_alone_changes_the_metric():
    """``--cfg-options test_evaluator.ann_file=...`` where the test's metric is that of validation."""
    from mmengine.config import Config

    from sapiens.engine.complete import complete_config

    for changes in ({}, dict(test_evaluator=dict(ann_file='a.json', points='common'))):
        config = Config(dict(val_evaluator=dict(type='KeypointAP', vocabulary='coco17'), **changes))
        metric = complete_config(config).test_evaluator
        assert metric == {'type': 'KeypointAP', 'vocabulary': 'coco17', **changes.get('test_evaluator', {})}


def test_files_of_a_test(tmp_path, capsys):
    metrics = evaluator_for_test(dict(type='KeypointAP', ann_file=str(COCO)), tmp_path, bootstrap=5, keep_worst=3)
    evaluator = Evaluator([METRICS.build(metric) for metric in metrics])
    samples = samples_of(read_coco(), 0.05)
    evaluator.process(samples)
    evaluator.evaluate(len(samples))
    written = finish_test(evaluator, tmp_path, tmp_path / 'worst')
    assert [path.name for path in written[:3]] == ['report.json', 'report.csv', 'report.md'] and len(written) == 6
    assert 'Keypoint AP and AR' in capsys.readouterr().out
    assert json.loads((tmp_path / 'report.json').read_text())['AP'] > 0
    assert len(json.loads((tmp_path / 'results_pose.json').read_text())) == 12
    assert isinstance(evaluator.metrics[0].report, EvaluationReport)


def test_a_metric_of_a_task_of_ones_own(tmp_path, capsys):
    class Matte(HumanMetric):
        task = 'matte'

        def measure(self, sample):
            return {'badness': sample['error']}

        def summarize(self, records):
            mean = float(np.mean([record['badness'] for record in records]))
            return self.make_report({'error': mean}, {}, [Table('Matte', ['', 'error'], [['all', mean]])], [], {}, [])

    (metric,) = evaluator_for_test(dict(type=Matte), tmp_path, keep_worst=1)
    evaluator = Evaluator([Matte(keep_worst=metric['keep_worst'])])
    evaluator.process([dict(error=0.1 * i, img_path=f'{i}.png', ori_shape=(40, 30)) for i in range(3)])
    evaluator.evaluate(3)
    (picture,) = [path for path in finish_test(evaluator, tmp_path, tmp_path / 'worst') if path.suffix == '.png']
    assert picture.name == '001_2.png' and picture.stat().st_size


CONFIG = """
_base_ = ['{root}/configs/_base_/default_runtime.py']
custom_hooks = []
model = dict(
    type='HumanEstimator',
    backbone=dict(type='SapiensViT', img_size=(64, 48),
                  arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)),
    heads=dict(
        depth=dict(type='DepthHead', deconv_channels=(16,), conv_channels=(16,), loss=dict(type='SiLogLoss')),
        normal=dict(type='NormalHead', deconv_channels=(16,), conv_channels=(16,), loss=dict(type='NormalLoss')),
        seg=dict(type='PartHead', vocabulary='parts28', deconv_channels=(16,), conv_channels=(16,),
                 loss=dict(type='WeightedCrossEntropy'))))
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HumanManifestDataset', data_root='{data}', part_vocabulary='parts28', test_mode=True,
        input_size=(64, 48),
        pipeline=[dict(type='LoadImage'), dict(type='Resize'), dict(type='LoadLabels', frame='original'),
                  dict(type='PackHumanInputs')]))
test_evaluator = [dict(type='DepthMetric'), dict(type='NormalMetric'), dict(type='PartIoU', vocabulary='parts28')]
test_cfg = dict()
"""


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Three images with all dense labels, and an untrained model: folder of config and checkpoint."""
    folder = tmp_path_factory.mktemp('made')
    normals, mask = ball(96, 72, 30, (46, 36))
    normals = np.moveaxis(normals, 0, -1)
    with ManifestWriter(folder / 'data', parts='parts28', normal_bits=16) as writer:
        for i in range(3):
            image = np.full((96, 72, 3), 60 + 40 * i, np.uint8)
            depth = np.where(mask, 3 - normals[..., 2] * 0.4, 0)
            writer.write(f'{i:03d}', image, mask.astype(np.uint8) * 3, depth, normals, mask)
    (folder / 'config.py').write_text(CONFIG.format(root=ROOT, data=folder / 'data'))
    from sapiens.engine.config import load_config

    torch.manual_seed(0)
    model = MODELS.build(load_config(str(folder / 'config.py')).model)
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder


def test_the_whole_way_on_made_data(made, tmp_path, run_script):
    """A model of all dense tasks, untrained: test it, score its saved results again, get the same tables."""
    options = ['--out', tmp_path / 'out', '--show-worst', '1', '--device', 'cpu', '--work-dir', tmp_path / 'logs']
    done = run_script('tools/test.py', made / 'config.py', made / 'model.pth', *options)
    assert done.code == 0, done.out + done.err
    text = done.out
    for expected in (
        'MiDaS protocol',
        'Normals (angles in degrees)',
        'Lower_Clothing',
        '3 images at original size',
        'input: 64x48 (H x W)',
        'flip test: no',
        'precision: float32 on cpu',
    ):
        assert expected in text
    live = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert len(list((tmp_path / 'out' / 'worst').glob('*/001_*.png'))) == 3
    for task in ('depth', 'normal', 'seg'):
        out = tmp_path / f'{task}.json'
        arguments = [
            tmp_path / 'out' / f'results_{task}',
            '--ann-file',
            made / 'data',
            '--task',
            task,
            '--json',
            out,
        ]
        done = run_tool('eval_results.py', *arguments)
        assert done.code == 0, done.error
        again = json.loads(out.read_text())
        own = {key.split('/')[1]: value for key, value in live.items() if key.startswith(f'{task}/')}
        assert own and own == {key: again[key] for key in own}


@pytest.fixture
def full_disk():
    """No file grows beyond 50 kB: the system refuses to write more, as it does on a full disk."""
    resource = pytest.importorskip('resource', reason='Windows has no limit on the size of files')
    ignored, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_one_line(made, tmp_path, run_script, full_disk):
    """What the system refuses to write ends in one line, nothing broken."""
    options = ['--out', tmp_path / 'out', '--device', 'cpu', '--work-dir', tmp_path / 'logs']
    done = run_script('tools/test.py', made / 'config.py', made / 'model.pth', *options)
    assert done.code == 1 and done.err.count('\n') == 1, done.err
    assert done.err.startswith(f'error: {tmp_path / "out" / "results_normal"}')
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.suffix == '.tmp']
