# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Order and augmentation depend on seed and position alone."""

import pickle

import numpy as np
import pytest
from scenes import photos
from torch.utils.data import DataLoader

from sapiens.datasets import ImageFolderDataset, SeededIndex, SeededSampler


class Numbers:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


def take(sampler, count):
    stream = iter(sampler)
    return [(int(i), i.seed) for i, _ in zip(stream, range(count), strict=False)]


def test_epochs_are_permutations_and_seeds_never_repeat():
    sampler = SeededSampler(Numbers(10), seed=3, infinite=True)
    drawn = take(sampler, 30)
    for epoch in range(3):
        assert sorted(i for i, _ in drawn[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert [i for i, _ in drawn[:10]] != [i for i, _ in drawn[10:20]]
    assert len({seed for _, seed in drawn}) == 30


def test_a_resumed_stream_goes_on_where_it_was():
    whole = take(SeededSampler(Numbers(7), seed=1, infinite=True), 40)
    resumed = SeededSampler(Numbers(7), seed=1, infinite=True)
    resumed.set_start(17)
    assert take(resumed, 23) == whole[17:]
    by_epoch = []
    sampler = SeededSampler(Numbers(7), seed=1)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        by_epoch += [(int(i), i.seed) for i in sampler]
    assert by_epoch == whole[:35]
    sampler.set_epoch(2)
    sampler.set_start(3)
    assert [(int(i), i.seed) for i in sampler] == whole[17:21]


@pytest.mark.parametrize('infinite', [True, False])
def test_two_processes_share_what_one_would_see(monkeypatch, infinite):
    def make(rank, world):
        monkeypatch.setattr('sapiens.datasets.samplers.get_dist_info', lambda: (rank, world))
        return SeededSampler(Numbers(9), seed=4, infinite=infinite)

    one = take(make(0, 1), 9)
    two = [take(make(rank, 2), 5) for rank in (0, 1)]
    together = [s for pair in zip(*two, strict=True) for s in pair]
    assert together[:9] == one
    assert len({len(t) for t in two}) == 1
    if not infinite:
        assert len(make(0, 2)) == len(make(1, 2)) == 5


def test_index_is_an_int_that_travels():
    index = SeededIndex(5, 77)
    assert index == 5 and 'abcdef'[index] == 'f'
    assert pickle.loads(pickle.dumps(index)).seed == 77


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_augmentation_does_not_depend_on_workers(tmp_path, workers):
    photos(tmp_path, 6)
    noise = [dict(type='LoadImage'), lambda results: {'drawn': np.random.rand(), 'id': results['img_id']}]
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=noise)
    np.random.seed(workers)
    before = np.random.get_state()[1].copy()
    loader = DataLoader(data, 2, sampler=SeededSampler(data, seed=5), num_workers=workers, collate_fn=list)
    drawn = [s['drawn'] for batch in loader for s in batch]
    assert len(set(drawn)) == 6
    assert (np.random.get_state()[1] == before).all(), 'the process around keeps its own numbers'
    np.random.seed(next(iter(SeededSampler(data, seed=5))).seed)
    assert drawn[0] == np.random.rand()
