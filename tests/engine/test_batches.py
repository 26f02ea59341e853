# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Batches arrive whole, in one piece of memory."""

import copy
import pickle
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from toy_data import ToyHumans

from sapiens.engine.batches import Batch, Collate
from sapiens.engine.loaders import build_train_dataloader
from sapiens.structures import HumanDataSample


def samples(number=3):
    made = []
    for i in range(number):
        sample = HumanDataSample(metainfo=dict(img_path=f'{i}.jpg', warp_mat=np.eye(3)[:2] * i, flipped=bool(i % 2)))
        sample.gt_keypoints = torch.rand(5, 2)
        sample.gt_mask = torch.rand(1, 8, 6) > 0.5
        sample.gt_depth = torch.rand(1, 6, 8).transpose(1, 2)
        sample.gt_boxes = torch.zeros(i, 4)
        sample.half = torch.rand(3).to(torch.bfloat16)
        sample.number = torch.tensor(i)
        made.append({'inputs': torch.randint(0, 255, (3, 8, 6), dtype=torch.uint8), 'data_samples': sample})
    return made


@pytest.fixture
def moved(monkeypatch):
    """Storages that are sent to another process."""
    found = []
    real = torch.multiprocessing.reductions.reduce_storage
    dispatch = {**ForkingPickler._extra_reducers, torch.UntypedStorage: lambda s: found.append(len(s)) or real(s)}
    monkeypatch.setattr(ForkingPickler, '_extra_reducers', dispatch)
    return found


def send(batch):
    return pickle.loads(ForkingPickler.dumps(batch))


def test_a_batch_arrives_as_it_was_in_one_piece(moved):
    collate = Collate(SimpleNamespace(skipped=[(4, 'cut off')]), pseudo_collate)
    sent = collate(samples())
    moved.clear()
    came = send(sent)
    assert type(came) is Batch and came.skipped == ((4, 'cut off'),) and collate.dataset.skipped == []
    assert len(moved) == 1
    for one, other in zip(sent['inputs'], came['inputs'], strict=True):
        assert torch.equal(one, other) and other.dtype == torch.uint8
    for one, other in zip(sent['data_samples'], came['data_samples'], strict=True):
        assert set(one.keys()) == set(other.keys()) and one.img_path == other.img_path and one.flipped is other.flipped
        assert np.array_equal(one.warp_mat, other.warp_mat)
        for name, value in one.items():
            assert torch.equal(value, other.get(name)) and value.dtype == other.get(name).dtype, name
    came['data_samples'][0].gt_depth[:] = 5  # a place of its own, which may be written
    assert came['data_samples'][1].gt_depth.max() <= 1 and sent['data_samples'][0].gt_depth.max() <= 1


@pytest.mark.parametrize('content', [{}, {'names': ['a', 'b'], 'empty': torch.zeros(0, 3)}, {'one': np.arange(3.0)}])
def test_small_batches_too(content):
    came = send(Batch(content))
    assert came.keys() == content.keys() and came.skipped == ()
    assert all(np.array_equal(came[name], value) for name, value in content.items())


def test_it_lies_in_pinned_memory_for_a_gpu(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: pinned.append(self.dtype) or self)
    sent = Collate(SimpleNamespace(), pseudo_collate, pinned=True)(samples())
    send(sent)
    assert pinned == [torch.uint8]
    again = copy.copy(sent)  # as torch does to pin a batch that did not travel
    assert type(again) is Batch and again.pinned and again is not sent and again['inputs'] is sent['inputs']


def test_what_is_no_dict_stays_so_and_says_what_was_skipped(caplog):
    collate = Collate(SimpleNamespace(skipped=[(1, 'damaged')]), tuple)
    assert collate([1, 2]) == (1, 2) and collate([3]) == (3,)


def test_a_loader_of_training_begins_its_workers_as_a_config_says():
    started = []
    begin = dict(type=lambda worker, words: started.append((worker, words)), words='go')
    cfg = dict(dataset=dict(type=ToyHumans, size=2), num_workers=1, worker_init_fn=begin)
    then = build_train_dataloader(cfg, 0, infinite=False).worker_init_fn.args[0]
    then(3)
    assert started == [(3, 'go')] and begin['words'] == 'go'
