# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Hooks that watch, draw and save."""

import copy
import json
import os
import signal
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_runs import read_losses

from sapiens.engine import SapiensRunner, load_config
from sapiens.engine.hooks import (
    EMAHook,
    MAEVisHook,
    PredictionVisHook,
    PreemptionHook,
    SafeCheckpointHook,
    StragglerHook,
    TrainingDiverged,
)
from sapiens.engine.logs import read_run
from sapiens.engine.peaks import peak_flops
from sapiens.errors import UserError
from sapiens.models.complexity import count_training_flops
from sapiens.registry import HOOKS
from sapiens.vocabularies import load_vocabulary


def build(config, work_dir, **changes):
    config.update(changes)
    config.work_dir = str(work_dir)
    config.experiment_name = Path(work_dir).name + str(id(config))
    return SapiensRunner.from_cfg(config)


# ---------------------------------------------------------------- watching


def test_nan_stops_the_run_and_names_the_batch_before_a_checkpoint_is_written(toy_config, tmp_path, monkeypatch):
    config = toy_config
    config.default_hooks.checkpoint.interval = 1
    config.train_dataloader.update(sampler=dict(type='DefaultSampler', shuffle=False), batch_size=2)
    runner = build(config, tmp_path)
    head = runner.bare_model.heads['pose']
    losses = head.losses

    def poisoned(hidden, samples):
        factor = float('nan') if any(s.img_path == 'toy_005.jpg' for s in samples) else 1.0
        return {name: value * factor for name, value in losses(hidden, samples).items()}

    monkeypatch.setattr(head, 'losses', poisoned)
    with pytest.raises(TrainingDiverged, match=r'pose.loss_kpt.*not finite at iteration 3 .*toy_004.jpg, toy_005.jpg'):
        runner.train()
    last = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert all(torch.isfinite(v).all() for v in last['state_dict'].values())
    assert not (tmp_path / 'iter_3.pth').exists()


def test_a_gradient_that_is_not_finite_stops_the_run_too(toy_config, tmp_path, monkeypatch):
    runner = build(toy_config, tmp_path)
    runner.bare_model.backbone.pos_embed.register_hook(lambda grad: grad * float('inf'))
    with pytest.raises(TrainingDiverged, match='grad_norm not finite at iteration 1 with the batch: toy_'):
        runner.train()


def test_the_log_says_what_share_of_the_peak_is_used(toy_config, tmp_path, monkeypatch):
    toy_config.custom_hooks = [dict(type='ThroughputHook', peak_tflops=0.001)]
    toy_config.default_hooks.logger.interval = 1
    runner = build(toy_config, tmp_path)
    runner.train()
    log = read_run(tmp_path).train
    operations = count_training_flops(copy.deepcopy(runner.bare_model))
    for step, rate in log['samples_per_s'].items():
        assert log['mfu'][step] == pytest.approx(rate * operations / 1e9, rel=1e-4)


def test_the_slowest_process_is_compared_with_the_median():
    hook, warnings, ratios = StragglerHook(), [], {}
    hook._hosts = [f'node{n // 2}' for n in range(5)]
    runner = types.SimpleNamespace(logger=types.SimpleNamespace(warning=warnings.append),
                                   message_hub=types.SimpleNamespace(update_scalar=ratios.__setitem__))  # fmt: skip
    even = torch.tensor([[0.1, 4.0, 10.0]]).repeat(5, 1)
    even[4, 0] = 0.4  # four times as long, but next to nothing of a step
    hook.report(runner, even)
    assert ratios == pytest.approx({'train/slowest_data': 4.0, 'train/slowest_compute': 1.0}) and not warnings
    even[3, 1] = 7.0
    hook.report(runner, even)
    assert ratios['train/slowest_compute'] == pytest.approx(1.75)
    (line,) = warnings
    assert line.startswith('process 3 on node1 computes 1.8 times as long as the median') and '30% of every' in line


def test_peaks_are_dense_and_known_by_name():
    assert peak_flops('NVIDIA H100 80GB HBM3') == 989e12
    assert peak_flops('NVIDIA H100 PCIe') == 756e12
    assert peak_flops('NVIDIA A100-SXM4-80GB', torch.float32) == 156e12
    assert peak_flops('NVIDIA L40S') == 362e12 and peak_flops('NVIDIA L4') == 121e12
    assert peak_flops('Some CPU') is None and peak_flops('Tesla V100-SXM2-16GB', torch.float32) is None


def test_unreadable_samples_are_replaced_counted_and_listed(toy_config, tmp_path):
    toy_config.train_dataloader.dataset.bad = [3, 7]
    toy_config.train_dataloader.num_workers = 1
    toy_config.custom_hooks = [dict(type='BadSampleHook', max_fraction=0.5)]
    build(toy_config, tmp_path).train()
    listed = json.loads((tmp_path / 'bad_samples.json').read_text())
    assert [item['index'] for item in listed] == [3, 7]
    assert listed[0]['reason'] == 'toy_003.jpg: cannot be read'
    assert len(read_losses(tmp_path)) == 12


def test_signals_mean_what_they_did_before_a_training_that_failed(toy_config, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    toy_config.custom_hooks = [dict(type='PreemptionHook'), dict(type='CrashHook', at=1)]
    with pytest.raises(RuntimeError, match='crash'):
        build(toy_config, tmp_path).train()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_none_leaves_a_default_hook_out_whoever_brought_it(toy_config, tmp_path):
    toy_config.default_hooks.budget = None
    toy_config.default_hooks.timer = None
    names = {type(hook).__name__ for hook in build(toy_config, tmp_path).hooks}
    assert not names & {'TimeBudgetHook', 'IterTimerHook'} and 'LoggerHook' in names


def test_one_signal_may_be_a_word():
    assert PreemptionHook('SIGUSR1').signals == PreemptionHook(['SIGUSR1']).signals == [signal.SIGUSR1]


@pytest.mark.timeout(60)
def test_a_signal_within_the_handler_of_another_waits_for_nothing():
    """A launcher passes on what the scheduler sends to all: on each line of the handler a second one comes."""
    seen = []

    def again(frame, event, _):
        if event == 'line' and len(seen) < 100:
            seen.append(frame.f_code.co_name)
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)
            sys.settrace(again)
        return again

    hook, before = PreemptionHook('SIGUSR1'), sys.gettrace()
    hook.before_train(None)
    try:
        sys.settrace(again)
        os.kill(os.getpid(), signal.SIGUSR1)
        sys.settrace(before)
        assert '_ask' in seen and PreemptionHook.asked
    finally:
        sys.settrace(before)
        hook.after_train(None)
    assert not PreemptionHook.asked


def test_too_many_unreadable_samples_stop_the_run(toy_config, tmp_path):
    toy_config.train_dataloader.dataset.bad = [3, 7]
    with pytest.raises(UserError, match=r'[12] of 22 samples cannot be read, more than 1.0%; first: toy_00[37].jpg'):
        build(toy_config, tmp_path).train()
    assert (tmp_path / 'bad_samples.json').is_file()


def test_a_data_set_with_nothing_readable_says_so(toy_config, tmp_path):
    toy_config.train_dataloader.dataset.bad = list(range(22))
    with pytest.raises(UserError, match='20 samples in a row cannot be read; the last: toy_'):
        build(toy_config, tmp_path).train()


def test_speed_and_losses_are_logged(toy_config, tmp_path):
    build(toy_config, tmp_path).train()
    lines = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    items = [json.loads(line) for line in lines]
    assert all(item['samples_per_s'] > 0 and item['time'] > 0 for item in items if 'loss' in item)


# ---------------------------------------------------------------- checkpoints


def test_the_last_and_the_best_are_kept_with_config_and_vocabularies(toy_config, tmp_path):
    toy_config.train_cfg.val_interval = 3
    toy_config.default_hooks.checkpoint.save_best = 'score'
    runner = build(toy_config, tmp_path)
    scores = iter([0.2, 0.9, 0.5, 0.7])
    runner.val_loop.evaluator.evaluate = lambda size: {'score': next(scores)}
    runner.train()
    names = sorted(p.name for p in tmp_path.glob('*.pth'))
    assert names == ['best_score_iter_6.pth', 'iter_12.pth', 'iter_9.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_12.pth')
    assert not list(tmp_path.glob('.*.tmp'))

    content = torch.load(tmp_path / 'iter_12.pth', weights_only=True)
    facts = content['meta']['sapiens']
    assert facts['patch_grid'] == (4, 3) and facts['patch_padding'] == 0 and facts['img_size'] == (64, 48)
    assert "type='ToyHumans'" in content['meta']['cfg']
    assert content['meta']['dataset_meta']['sigmas'] == [1.0, 1.0, 1.0]
    for kind, name in (('keypoints', 'coco17'), ('parts', 'parts20')):
        file = tmp_path / f'{kind}.json'
        file.write_text(json.dumps(facts['vocabularies'][kind]))
        again, shipped = load_vocabulary(file), load_vocabulary(name)
        assert again.names == shipped.names and (again.swap == shipped.swap).all()
        assert (again.colors == shipped.colors).all()
    best = torch.load(tmp_path / 'best_score_iter_6.pth', weights_only=True)
    assert 'optimizer' not in best


def test_a_new_checkpoint_is_whole_before_an_old_one_goes(toy_config, tmp_path, monkeypatch):
    toy_config.default_hooks.checkpoint.max_keep_ckpts = 1
    runner = build(toy_config, tmp_path)
    hook = next(h for h in runner.hooks if isinstance(h, SafeCheckpointHook))
    seen = []
    save = runner.save_checkpoint

    def look(*args, **kwargs):
        seen.append(sorted(p.name for p in tmp_path.glob('iter_*.pth')))
        save(*args, **kwargs)

    monkeypatch.setattr(runner, 'save_checkpoint', look)
    runner.train()
    assert seen[1:4] == [['iter_3.pth'], ['iter_6.pth'], ['iter_9.pth']]
    assert hook.kept == ['iter_12.pth']


@pytest.mark.parametrize(
    ('metric', 'rule', 'scores', 'best'),
    [
        ('AbsRel', None, [0.3, 0.1, 0.2], 0.1),
        ('coco/AP', None, [0.3, 0.5, 0.4], 0.5),
        ('x', 'less', [3, 1, 2], 1),
        ('x', None, [float('nan'), 2, 1], 2),
    ],
)
def test_what_counts_as_best(metric, rule, scores, best, tmp_path):
    hook = SafeCheckpointHook(save_best=metric, rule=rule)
    hook.folder = tmp_path

    class Runner:
        train_loop, iter, epoch = True, 0, 0
        logger = type('L', (), {'info': lambda self, text: None})()

        def save_checkpoint(self, folder, name, **kwargs):
            (Path(folder) / name).touch()

    for runner_iter, score in enumerate(scores):
        Runner.iter = runner_iter
        hook.after_val_epoch(Runner(), {metric: score})
    assert hook.best['score'] == best
    assert [p.name for p in tmp_path.iterdir()] == [hook.best['file']]


def test_an_unknown_metric_is_named(tmp_path):
    hook = SafeCheckpointHook(save_best='mIou')
    with pytest.raises(UserError, match="save_best='mIou' is not among the metrics: mIoU, mAcc"):
        hook.after_val_epoch(type('R', (), {'train_loop': True})(), {'mIoU': 1.0, 'mAcc': 1.0})


# ---------------------------------------------------------------- pictures


def test_pictures_show_labels_and_predictions(toy_config, tmp_path):
    toy_config.custom_hooks = [dict(type='PredictionVisHook', interval=6, max_images=2)]
    runner = build(toy_config, tmp_path)
    runner.train()
    names = {p.name for p in tmp_path.glob('*/vis_data/vis_image/*.png')}
    assert names == {'train_6.png', 'train_12.png', 'val_0_12.png'}
    picture = cv2.imread(str(next(tmp_path.glob('*/vis_data/vis_image/train_12.png'))))
    # Two rows of input, three labels and three predictions, of 64 x 48 pixels each.
    assert picture.shape[0] >= 2 * 64 and picture.shape[1] >= 7 * 48


def test_no_images_are_no_picture():
    runner = types.SimpleNamespace(bare_model=None, iter=0)
    for hook in (PredictionVisHook(interval=1, max_images=0), MAEVisHook(interval=1, max_images=0)):
        hook.after_train_iter(runner, 0, {'inputs': []})
        hook.after_val_iter(runner, 0, {'inputs': []}, [])


def test_pictures_of_a_validation_are_what_it_predicted(toy_config, tmp_path):
    """The model does not run once more for them, and what it said of the original image is drawn on the input."""
    from sapiens.engine.hooks.pictures import _in_input_frame
    from sapiens.structures import HumanDataSample

    toy_config.custom_hooks = [dict(type='PredictionVisHook', interval=0)]
    runner = build(toy_config, tmp_path)
    passes = []
    runner.model.backbone.register_forward_hook(lambda m, *_: None if m.training else passes.append(1))
    runner.train()
    assert len(passes) == len(runner.val_dataloader)
    warp = np.array([[0.5, 0, 4], [0, 0.5, 2.0]])
    sample = HumanDataSample(metainfo=dict(img_shape=(64, 48), ori_shape=(120, 80), warp_mat=warp))
    sample.pred_keypoints, sample.pred_depth = torch.tensor([[10.0, 20.0]]), torch.ones(1, 120, 80)
    (drawn,) = _in_input_frame([sample])
    assert drawn.pred_keypoints.tolist() == [[9, 12]] and drawn.pred_depth.shape == (1, 64, 48)
    assert torch.isnan(drawn.pred_depth[0, 0, 0]) and drawn.pred_depth[0, 30, 20] == 1
    assert sample.pred_keypoints.tolist() == [[10, 20]], 'the metrics get what was predicted'


def test_drawing_does_not_change_training(toy_config, train):
    _, without = train(toy_config, 'without')
    toy_config.custom_hooks = [dict(type='PredictionVisHook', interval=1)]
    _, with_pictures = train(toy_config, 'with')
    assert without.losses == with_pictures.losses


def test_reconstructions_are_drawn_for_three_mask_ratios(toy_config, tmp_path):
    arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
    toy_config.model = dict(
        _delete_=True,
        type='MAEPretrainer',
        backbone=dict(type='SapiensViT', arch=arch, img_size=(64, 48)),
        neck=dict(type='MAEDecoder', embed_dims=32, num_layers=1, num_heads=2),
    )
    toy_config.model.pop('_delete_')
    toy_config.custom_hooks = [dict(type='MAEVisHook', interval=6, max_images=2), dict(type='PredictionVisHook')]
    for phase in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            toy_config[f'{phase}_{part}'] = None
    build(toy_config, tmp_path).train()
    files = sorted(tmp_path.glob('*/vis_data/vis_image/*.png'))
    assert [p.name for p in files] == ['mae_train_12.png', 'mae_train_6.png']
    picture = cv2.imread(str(files[0]))
    assert picture.shape[0] >= 6 * 64 and picture.shape[1] >= 3 * 48
    rows = np.array_split(picture, 6)
    # The middle tile has more grey (128) the more was masked: 9, then 11 of 12 patches.
    third = picture.shape[1] // 3
    grey = [(np.abs(row[:, third : 2 * third].astype(int) - 128) < 3).mean() for row in rows]
    assert grey[0] < grey[2] - 0.05 and grey[0] < grey[4] - 0.05 and grey[4] > 0.7


@pytest.mark.parametrize(
    ('hook', 'name', 'least'),
    [
        ('PredictionVisHook', 'interval', 0), ('PredictionVisHook', 'max_images', 0), ('MAEVisHook', 'interval', 0),
        ('PreemptionHook', 'interval', 1), ('StragglerHook', 'interval', 1), ('SafeCheckpointHook', 'interval', -1),
        ('SafeCheckpointHook', 'max_keep_ckpts', -1), ('NaNGuardHook', 'patience', 0),
        ('BadSampleHook', 'max_fraction', 0),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_said_before_a_run_begins(hook, name, least):
    """An interval of 0 never asked whether to stop, a word was a traceback in the first step."""
    HOOKS.build({'type': hook, name: least})
    for bad in (least - 1, float('nan'), 'often'):
        with pytest.raises(UserError, match=rf'^{hook}\.{name} is .*; give a .*number'):
            HOOKS.build({'type': hook, name: bad})


@pytest.mark.parametrize('momentum', [0, 2, -0.1])
def test_a_momentum_that_is_no_part_is_named(momentum):
    with pytest.raises(UserError, match=f'EMAHook.momentum is {momentum}; give a number'):
        EMAHook(momentum)


def test_config_of_the_tests_is_a_config():
    assert load_config(Path(__file__).with_name('toy_config.py')).model.type == 'HumanEstimator'


def test_a_screen_tells_how_a_run_starts(toy_config, train, tmp_path):
    """Three hundred lines of hooks by stage, environment and config came before the first loss."""
    toy_config.log_level = 'INFO'
    toy_config.train_cfg.max_iters = 1
    train(toy_config)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    before = log.read_text().split('Iter(train)')[0]
    assert before.count('\n') < 25, before
    for words in ('SafeCheckpointHook, ', '1 process(es), seed 0, float32 on', 'in full: '):
        assert words in before
    (written,) = (tmp_path / 'run').glob('*/vis_data/config.py')
    assert f'in full: {written}' in before


@pytest.mark.parametrize(
    ('schedule', 'noticed'),
    [
        (
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
            'LinearLR goes on until iteration 500',
        ),
        (dict(type='MultiStepLR', milestones=[1], by_epoch=False, begin=0, end=4), 'but training ends at 3'),
        (dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3), None),
        (dict(type='PolyLR', by_epoch=False, begin=0), None),
    ],
)
def test_a_schedule_that_is_longer_than_the_run_is_noticed(toy_config, train, capsys, schedule, noticed):
    toy_config.train_cfg.max_iters = 3
    toy_config.param_scheduler = [schedule]
    train(toy_config)
    out = capsys.readouterr().out
    assert ('but training ends' in out) == (noticed is not None)
    assert noticed is None or noticed in out


@pytest.mark.parametrize('ema_type', ['ExponentialMovingAverage', 'MomentumAnnealingEMA', 'StochasticWeightAverage'])
@pytest.mark.parametrize('begin_iter', [0, 3])
def test_the_average_of_every_kind_is_that_of_mmengine(ema_type, begin_iter):
    from mmengine.hooks import EMAHook as Theirs

    model = torch.nn.Linear(3, 2)
    runner = types.SimpleNamespace(model=model, bare_model=model, iter=0, epoch=0, _resume=False)
    options = dict(ema_type=ema_type, begin_iter=begin_iter, update_buffers=True, strict_load=True)
    options |= {} if ema_type == 'StochasticWeightAverage' else dict(momentum=0.1)
    ours, theirs = EMAHook(**options), Theirs(**options)
    ours.before_train(runner)
    theirs.before_run(runner)
    for runner.iter in range(6):
        with torch.no_grad():
            model.weight += runner.iter + 1
        for hook in (ours, theirs):
            hook.after_train_iter(runner, runner.iter)
    torch.testing.assert_close(ours.average['weight'], theirs.ema_model.module.weight)
    early = EMAHook(ema_type='ExpMomentumEMA', momentum=0.1).rule(0.1, 2000, 1)
    assert early == pytest.approx(0.999, abs=1e-3)
    with pytest.raises(UserError, match="ema_type 'Mean' is none of ExponentialMovingAverage.*mmengine.EMAHook"):
        EMAHook(ema_type='Mean')
