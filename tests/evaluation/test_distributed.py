# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Two processes give exactly the figures of one, whatever the samplers appended."""

import os
import sys

import cv2
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from people import COCO, read_coco, samples_of
from test_normal import ball

from sapiens.errors import UserError
from sapiens.evaluation import PCK, DepthMetric, KeypointAP, NormalMetric, PartIoU
from sapiens.evaluation.base import without_padding

# Not forked from here: OpenCV's threads, started by an earlier test, would be waited for in the fork for ever.
START = 'spawn' if sys.platform == 'win32' else 'forkserver'


def dense_samples(count):
    random = np.random.default_rng(5)
    normals, mask = ball(40, 36, 14, (19, 17))
    samples = []
    for i in range(count):
        label = random.integers(0, 20, (40, 36))
        depth = random.uniform(1, 3, (1, 40, 36))
        samples.append(
            {
                'img_id': i,
                'gt_part_map': torch.tensor(label, dtype=torch.uint8),
                'pred_part_map': torch.tensor(np.where(random.random(label.shape) < 0.7, label, 3), dtype=torch.uint8),
                'gt_depth': torch.tensor(depth),
                'pred_depth': torch.tensor(depth * random.uniform(0.2, 2) + random.normal(0, 0.2, depth.shape)),
                'gt_normals': torch.tensor(normals),
                'pred_normals': torch.tensor(normals + random.normal(0, 0.3, normals.shape).astype(np.float32)),
                'gt_mask': torch.tensor(mask)[None],
            }
        )
    # A set may really hold a sample twice; both count.
    samples[3] = samples[1]
    return samples


def make_metrics():
    dense = [
        PartIoU(vocabulary='parts20', bootstrap=20, keep_worst=2),
        DepthMetric(bootstrap=20, keep_worst=2),
        NormalMetric(bootstrap=20, keep_worst=2),
    ]
    pose = [KeypointAP(ann_file=COCO, bootstrap=5), KeypointAP(prefix='own'), PCK(bootstrap=20)]
    return dense, pose


def evaluate(rank, world, tmp):
    """Deal the samples as mmengine's sampler does (padded to equal shares, interleaved) and evaluate."""
    dense, pose = make_metrics()
    figures = {}
    for samples, metrics in ((dense_samples(7), dense), (samples_of(read_coco()), pose)):
        share = -(-len(samples) // world)
        padded = (samples * 2)[: share * world]
        for metric in metrics:
            # Both ways of gathering: a folder of one's own, and mmengine's.
            if tmp is not None and metric.prefix != 'pose':
                metric.collect_dir = f'{tmp}/{type(metric).__name__}_{metric.prefix}'
            own = padded[rank::world]
            for start in range(0, len(own), 2):
                metric.process(None, own[start : start + 2])
            figures.update(metric.evaluate(len(samples)))
            if rank == 0:
                figures[f'{metric.prefix}/{type(metric).__name__}/intervals'] = metric.report.intervals
                figures[f'{metric.prefix}/{type(metric).__name__}/worst'] = [badness for badness, _ in metric.worst]
    return figures


def worker(rank, world, tmp):
    os.chdir(tmp)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp}/sync', rank=rank, world_size=world)
    figures = evaluate(rank, world, tmp)
    # A failure on the main process must reach the others, or they would wait for ever.
    metric = PartIoU(vocabulary='parts20')
    metric.collect_dir = f'{tmp}/failing'
    sample = dense_samples(4)[0]
    metric.process(None, [{**sample, 'gt_part_map': torch.full((40, 36), 255, dtype=torch.uint8)}])
    try:
        metric.evaluate(2)
        message = 'nothing was raised'
    except UserError as error:
        message = str(error)
    torch.save((figures, message), f'{tmp}/rank{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('world', [2])
def test_two_processes_equal_one(tmp_path, world):
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (31, 31), 5)  # as an earlier test may have done: threads
    mp.start_processes(worker, (world, str(tmp_path)), nprocs=world, start_method=START)
    expected = evaluate(0, 1, None)
    results = [torch.load(tmp_path / f'rank{rank}.pt', weights_only=False) for rank in range(world)]
    assert results[0][0] == expected
    # Every process gets the figures (the report is the main one's).
    assert results[1][0] == {name: value for name, value in expected.items() if name.count('/') == 1}
    assert all('every labelled pixel is ignored' in message for _, message in results)
    assert not (tmp_path / '.dist_test').exists()


def test_padding_goes_and_real_duplicates_stay():
    def records(keys):
        return [{'key': (key,), 'n': n} for n, key in enumerate(keys)]

    def kept(keys, size):
        return [r['n'] for r in without_padding(records(keys), size)]

    assert kept('abcabc', 6) == [0, 1, 2, 3, 4, 5]  # the set holds each twice
    assert kept('abcda', 4) == [0, 1, 2, 3]  # padded by one
    assert kept('aabcaa', 4) == [0, 1, 2, 3]  # twice in the set, padded by two
    assert kept('abacd', 4) == [0, 1, 3, 4]  # a sampler that puts its copy elsewhere
    assert kept('abc', 5) == [0, 1, 2]
    assert [r['n'] for r in without_padding([{'key': (), 'n': n} for n in range(5)], 4)] == [0, 1, 2, 3]
