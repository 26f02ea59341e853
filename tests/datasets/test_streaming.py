# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Shards are read one after another, each image once an epoch, by any number of processes and workers."""

import io
import json
import tarfile
import tracemalloc
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sapiens.datasets import LitdataImageDataset, ShardImageDataset
from sapiens.datasets.shard_images import Shard
from sapiens.datasets.shard_index import read_index
from sapiens.datasets.shard_order import ShardOrder
from sapiens.datasets.storage import exists, read_bytes
from sapiens.engine import loaders, sampling
from sapiens.engine.hooks.watch import BadSampleHook
from sapiens.engine.loaders import build_train_dataloader, order_layout, restore_layout
from sapiens.errors import UserError


def pixel(value):
    """A tiny PNG that can be told from others."""
    return cv2.imencode('.png', np.full((2, 2, 3), [value % 251, value // 251, 7], np.uint8))[1].tobytes()


def write_shard(path, values, index=True):
    with tarfile.open(path, 'w') as tar:
        for value in values:
            data = pixel(value)
            for name, content in ((f'{value:05d}.png', data), (f'{value:05d}.json', b'{}')):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_shards(folder, sizes, first=0):
    folder.mkdir(exist_ok=True)
    for number, size in enumerate(sizes):
        write_shard(folder / f'{number:03d}.tar', range(first, first + size))
        first += size
    return folder


def loader(monkeypatch, rank, world, workers, batch, infinite=True, **dataset):
    """The training loader of one of several processes."""
    for module in (sampling, loaders):
        monkeypatch.setattr(module, 'get_dist_info', lambda: (rank, world))
    cfg = dict(
        batch_size=batch, num_workers=workers, collate_fn=dict(type='pseudo_collate'),
        dataset=dict(type='ShardImageDataset', chunk=8, pipeline=[dict(type='LoadImage')], **dataset),
        sampler=dict(type='InfiniteSampler', shuffle=True),
    )  # fmt: skip
    return build_train_dataloader(cfg, seed=5, infinite=infinite)


def values(batch):
    return [int(image[0, 0, 1]) * 251 + int(image[0, 0, 2]) for image in batch['img']]


def test_every_epoch_holds_each_image_once():
    rng = np.random.default_rng(0)
    for _ in range(60):
        counts = rng.integers(1, 90, rng.integers(1, 12))
        lanes = tuple(int(n) for n in rng.integers(1, 6, 2))
        order = ShardOrder(counts, 7, int(rng.integers(1, 20)), lanes, int(rng.integers(1, 20)))
        size = counts.sum()
        for epoch in (0, 1):
            assert sorted(order(np.arange(size) + epoch * size)) == list(range(size))
    assert (order(np.arange(size)) != order(np.arange(size) + size)).any()


def test_ten_million_images_take_no_more_memory_than_their_shards():
    size, seen = 10_000_000, np.zeros(10_000_000, bool)
    tracemalloc.start()
    order = ShardOrder(np.full(10_000, 1000), 0, 1024, (64, 8))
    for start in range(0, size, 200_000):
        seen[order(np.arange(start, start + 200_000))] = True
        if start == 1_000_000:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen.all()
    assert kept - before < 100_000 and kept < 1_500_000, 'bytes; 8 an image would be 80 million'
    assert peak < 60_000_000, 'of 200,000 draws at once, not of the data'


def test_sources_are_mixed_by_their_weights():
    order = ShardOrder([100] * 40 + [50] * 20, 3, 16, (4, 2), 16, sources=[0] * 40 + [1] * 20, weights=[1, 3])
    drawn = order(np.arange(20_000))
    assert (drawn >= 4000).mean() == pytest.approx(0.75, abs=0.002)
    for first in range(0, 20_000, 1000):
        assert (drawn[first : first + 1000] >= 4000).mean() == pytest.approx(0.75, abs=0.06), 'at all times'
    often = np.bincount(drawn - 4000 * (drawn >= 4000) + 10_000 * (drawn >= 4000), minlength=11_000)
    assert np.ptp(often[:4000]) <= 2 and np.ptp(often[10_000:]) <= 2, 'no image of a source is preferred'


@pytest.mark.parametrize('shards', [{}, [], {'*.tar': 'x'}, {'*.tar': None}, {'a.tar': 0}, {'a.tar': 1, 'b.tar': 1000}])
def test_what_is_no_choice_of_shards_is_said(tmp_path, shards):
    with pytest.raises(UserError, match='names none|weights are positive'):
        ShardImageDataset(str(tmp_path), shards)


def test_a_last_batch_that_fills_no_lane():
    order = ShardOrder([8, 11, 8], 0, 13, (1, 3), 2, sources=[0, 0, 1], weights=[1, 2])
    drawn = order(np.arange(2000))
    assert set(drawn.tolist()) == set(range(27)) and (drawn >= 19).mean() == pytest.approx(2 / 3, abs=0.01)


def test_a_source_without_images_is_said(tmp_path):
    write_shards(tmp_path, [3, 0])
    assert len(ShardImageDataset(str(tmp_path), ['000.tar', '001.tar'])) == 3
    with pytest.raises(UserError, match='001.tar: no image in any of its shards, but a share of the draws'):
        ShardImageDataset(str(tmp_path), {'000.tar': 1, '001.tar': 1})


def test_workers_read_their_own_shards_once_and_from_front_to_back(tmp_path, monkeypatch):
    write_shards(tmp_path, [64] * 32)
    reads = []
    read = Shard.read
    monkeypatch.setattr(
        Shard, 'read', lambda self, first, count: reads.append((self.path, first)) or read(self, first, count)
    )
    for rank in range(2):
        data = loader(monkeypatch, rank, 2, 2, 4, infinite=False, data_root=str(tmp_path))
        for worker in range(2):
            data.dataset.dataset._forget()
            begin = len(reads)
            for batch in list(data.batch_sampler)[worker::2]:  # torch deals batches to workers in turn
                for draw in batch:
                    data.dataset[draw]
            mine = reads[begin:]
            assert len(mine) == len(set(mine)), 'no chunk is read twice by a worker'
            for path in {path for path, _ in mine}:
                places = [first for name, first in mine if name == path]
                assert places == sorted(places), 'a shard is read from front to back'
    # 256 chunks; 16 lanes cut some in two.
    assert len(set(reads)) == 256 and len(reads) <= 256 + 16


def test_resuming_in_mid_shard_with_other_processes_and_workers(tmp_path, monkeypatch):
    write_shards(tmp_path, [50, 7, 33, 40, 21, 60])

    def run(world, workers, first, steps, layout=None):
        """Batches of all processes together, each sorted, and what the checkpoint would hold of the order."""
        batches = []
        for rank in range(world):
            data = loader(monkeypatch, rank, world, workers, 12 // world, data_root=str(tmp_path))
            restore_layout(data, layout)
            data.batch_sampler.skip(first)
            batches.append([values(batch) for batch, _ in zip(data, range(steps), strict=False)])
        return [sorted(sum(step, [])) for step in zip(*batches, strict=True)], order_layout(data)

    whole, layout = run(2, 0, 0, 40)
    assert whole[5:] == run(4, 0, 5, 35, layout)[0] == run(1, 2, 5, 35, layout)[0]
    assert set(sum(whole[:18], [])) == set(range(211)), '211 images in 17.6 batches of 12'


def test_another_global_batch_goes_on_at_the_same_draw(tmp_path, monkeypatch):
    write_shards(tmp_path, [50, 31, 40])

    def draws(data, steps):
        return [d for batch, _ in zip(data.batch_sampler, range(steps), strict=False) for d in batch]

    before = draws(loader(monkeypatch, 0, 1, 0, 8, data_root=str(tmp_path)), 5)
    smaller = loader(monkeypatch, 0, 1, 0, 3, data_root=str(tmp_path))
    smaller.batch_sampler.skip(5, draws=40)
    after = draws(smaller, 27)
    assert [d.number for d in before + after] == list(range(121))
    restored = loader(monkeypatch, 0, 1, 0, 3, data_root=str(tmp_path))
    restore_layout(restored, dict(batch=8, lanes=[8, 1]))
    restored.batch_sampler.skip(5, draws=40)
    assert sorted(int(d) for d in before + draws(restored, 27)) == list(range(121))


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == 'cut':
        path.write_bytes(data[: len(data) * 2 // 3])
    elif how == 'header':
        middle = len(data) // 2 // 512 * 512
        data[middle : middle + 512] = b'\xff' * 512
        path.write_bytes(data)
    elif how == 'member missing':
        write_shard(path, range(20, 35))
    elif how == 'gone':
        path.unlink()


@pytest.mark.parametrize('how', ['cut', 'header', 'member missing', 'gone'])
@pytest.mark.parametrize('indexed', [True, False], ids=['after the index', 'before'])
def test_a_damaged_shard_is_told_once_counted_and_replaced(tmp_path, monkeypatch, caplog, how, indexed):
    write_shards(tmp_path, [20, 20, 20, 20])
    source = dict(data_root=str(tmp_path), shards='{000..003}.tar')
    if indexed:
        assert len(ShardImageDataset(**source)) == 80
        document = json.loads((tmp_path / 'shards.json').read_text())
        damage(tmp_path / '001.tar', how)
        for entry in document['shardlist']:  # as if it had broken since the data set was made
            entry.pop('filesize')
        (tmp_path / 'shards.json').write_text(json.dumps(document))
    else:
        damage(tmp_path / '001.tar', how)
    if how == 'gone':  # that is no accident of a disk
        with pytest.raises(UserError, match='001.tar: no such shard'):
            len(ShardImageDataset(**source))
        return
    data = loader(monkeypatch, 0, 1, 0, 10, infinite=False, **source)
    hook, lines = BadSampleHook(), []
    runner = SimpleNamespace(
        train_dataloader=data, work_dir=str(tmp_path), iter=0, logger=SimpleNamespace(warning=lines.append)
    )
    seen = set()
    for batch in data:
        seen.update(values(batch))
        hook.max_fraction = 1
        batch['inputs'] = batch['img']
        hook.after_train_iter(runner, 0, batch)
    whole = 15 if how == 'member missing' else max(len(Shard(str(tmp_path / '001.tar')).members), 1)
    assert 1 <= whole < 20
    assert set(range(20)) | set(range(20, 20 + whole)) | set(range(40, 80)) <= seen | set(range(20, 40))
    bad = 20 - whole if indexed else 0 if how == 'member missing' else 1
    assert len(hook.bad) == bad == hook.bad_draws
    assert len(lines) == (1 if bad else 0) and all('001.tar: ' in line and '\n' not in line for line in lines)


def test_an_index_is_kept_and_a_shard_that_changed_is_counted_again(tmp_path):
    write_shards(tmp_path, [5, 6])
    assert len(ShardImageDataset(str(tmp_path))) == 11
    index = json.loads((tmp_path / 'shards.json').read_text())
    assert [(e['url'], e['nsamples']) for e in index['shardlist']] == [('000.tar', 5), ('001.tar', 6)]
    write_shard(tmp_path / '001.tar', range(30))
    write_shard(tmp_path / '002.tar', range(4))
    assert len(ShardImageDataset(str(tmp_path))) == 39
    (tmp_path / 'shards.json').write_text('{"shardlist": 3}')
    with pytest.raises(UserError, match='shards.json: is no index of shards'):
        len(ShardImageDataset(str(tmp_path)))
    with pytest.raises(UserError, match='none is below 1/256'):
        ShardImageDataset(str(tmp_path), {'000.tar': 300, '001.tar': 1})


def test_the_index_of_the_current_folder_is_read_where_it_is_written(tmp_path, monkeypatch):
    write_shards(tmp_path, [5, 6])
    monkeypatch.chdir(tmp_path)
    assert len(ShardImageDataset(shards='*.tar')) == 11
    assert read_index('') == {'000.tar': 5, '001.tar': 6}


def test_shards_in_an_object_store(tmp_path, monkeypatch):
    fsspec = pytest.importorskip('fsspec', reason='needs fsspec')
    store = fsspec.filesystem('memory')
    write_shards(tmp_path, [9, 12])
    for path in tmp_path.glob('*.tar'):
        store.pipe_file(f'/bucket/shards/{path.name}', path.read_bytes())
    for shards in ('*.tar', '{000..001}.tar'):
        data = loader(monkeypatch, 0, 1, 0, 3, infinite=False, data_root='memory://bucket/shards', shards=shards)
        assert sorted(v for batch in data for v in values(batch)) == list(range(21))
    assert store.exists('/bucket/shards/shards.json')
    # What messages and checks name can be read again.
    image = ShardImageDataset('memory://bucket/shards', pipeline=[]).get_data_info(10)
    assert exists(image['img_path']) and read_bytes(image['img_path']) == image['img_bytes']
    assert not exists('memory://bucket/nothing.tar') and read_bytes('memory://bucket/shards/shards.json')[:1] == b'{'
    store.pipe_file('/bucket/shards/001.tar', b'no archive' * 200)
    with pytest.raises(UserError, match=r'memory://bucket/shards/001.tar: not an uncompressed tar'):
        ShardImageDataset('memory://bucket/shards', '001.tar')[3]
    with pytest.raises(UserError, match='no shard matches'):
        ShardImageDataset('memory://bucket/nowhere', '*.tar')
    with pytest.raises(UserError, match='unheard-of'):
        ShardImageDataset('unheard-of://bucket', '0.tar')


def test_chunks_of_litdata(tmp_path, monkeypatch):
    litdata = pytest.importorskip('litdata', reason='needs litdata')
    from litdata.streaming.cache import Cache

    writer = Cache(str(tmp_path), chunk_size=16)
    for i in range(50):
        writer[i] = {'image': pixel(i)}
    writer.done()
    writer.merge()
    data = LitdataImageDataset(str(tmp_path), pipeline=[dict(type='LoadImage')])
    assert len(data) == 50 and litdata
    order = data.draw_order(0, 4, 1, 0)
    assert sorted(values(dict(img=[data[i]['img'] for i in order(np.arange(50))]))) == list(range(50))
    with pytest.raises(UserError, match="key 'jpg'"):
        LitdataImageDataset(str(tmp_path), key='jpg', test_mode=True)[0]
    (tmp_path / 'index.json').unlink()
    with pytest.raises(UserError, match='index.json'):
        LitdataImageDataset(str(tmp_path))
