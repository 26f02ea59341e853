"""The three jobs: nothing is lost or done twice, whatever images, processes and thresholds do."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from sapiens.curation.duplicates import choose, embedding_pairs, hash_pairs
from sapiens.curation.packing import RECORD, decide_part, finish_part, pack_shard, reasons_of
from sapiens.curation.scoring import Worker, read_batch, run_scoring
from sapiens.curation.sources import find_images_of, read_image, write_list
from sapiens.curation.stage import Stage, build_stages
from sapiens.datasets.image_files import decode_image
from sapiens.datasets.shard_images import ShardImageDataset
from sapiens.errors import MissingPackageError, UserError
from sapiens.registry import CURATION_STAGES

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 900  # seconds that a run of Ray may take on a busy machine


def needs(*modules):
    missing = [m for m in modules if not importlib.util.find_spec(m)]
    return pytest.mark.skipif(bool(missing), reason=f'needs {", ".join(missing)} of the extra [curation]')


def jpeg(seed=0, size=(60, 80)):
    image = cv2.resize(np.random.default_rng(seed).integers(0, 255, (5, 7, 3)).astype(np.uint8), size[::-1])
    return cv2.imencode('.jpg', image)[1].tobytes()


@pytest.fixture
def crawl(tmp_path):
    """Eight images in folders, two of which are broken."""
    folder = tmp_path / 'crawl'
    for number in range(8):
        path = folder / f'{number % 2}' / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number, (60, 80 + 10 * number)))
    (folder / '0/4.jpg').write_bytes(b'')
    (folder / '1/5.jpg').write_bytes(jpeg()[:300])
    return folder


@CURATION_STAGES.register_module()
class Fussy(Stage):
    """Fails on one image, and with it on its whole batch."""

    columns = {'wide': 'float'}

    def score(self, items):
        if any(item.size[1] == 110 for item in items):
            raise ZeroDivisionError('what a library does')
        return [{'wide': float(item.size[1])} for item in items]

    def reason(self, row, most=1e9):
        return 'wide' if row['wide'] > most else None


CONFIG = {
    'stages': {
        'size': dict(type='ImageSize', gate=dict(min_side=50), reject=dict(min_side=50)),
        'fussy': dict(type='Fussy', reject=dict(most=135)),
    }
}


def test_sources_give_the_same_images(crawl, tmp_path):
    names = [name for name, _ in find_images_of(str(crawl))]
    assert names == ['0/0.jpg', '0/2.jpg', '0/4.jpg', '0/6.jpg', '1/1.jpg', '1/3.jpg', '1/5.jpg', '1/7.jpg']
    (crawl / 'some.txt').write_text('1/3.jpg\n0/6.jpg\n')
    assert [name for name, _ in find_images_of(str(crawl / 'some.txt'))] == ['1/3.jpg', '0/6.jpg']
    (tmp_path / 'tars').mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / f'tars/{number}.tar', 'w') as tar:
            tar.add(crawl / str(number), 'x')
    found = list(find_images_of(str(tmp_path / 'tars')))
    assert found == list(find_images_of(str(tmp_path / 'tars/{0..1}.tar'))) and len(found) == 8
    assert read_image(found[4][1]) == (crawl / '1/1.jpg').read_bytes()
    for source, words in (('none.tar', 'no such shard'), ('crawl/0/0.jpg', 'is no folder, .txt, .tar or .parquet')):
        with pytest.raises(UserError, match=words):
            list(find_images_of(str(tmp_path / source)))


@CURATION_STAGES.register_module()
class Unready(Fussy):
    """A library of its model is not installed."""

    def load(self):
        raise MissingPackageError('the model needs such and such')


def test_a_model_that_cannot_be_had_is_known_before_anything_is_scored(tmp_path):
    def run(function, calls):
        return [function(*arguments) for arguments in calls]

    config = {'stages': {'size': CONFIG['stages']['size'], 'unready': dict(type='Unready')}}
    with pytest.raises(MissingPackageError, match='such and such'):
        run_scoring(config, types.SimpleNamespace(run=run), tmp_path, [8])
    assert not list(tmp_path.iterdir())


@needs('pyarrow')
@pytest.mark.parametrize('kind', ['bytes', 'struct', 'path'])
def test_parquet_of_bytes_or_paths(crawl, tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [crawl / '0/0.jpg', crawl / '1/1.jpg', crawl / '1/3.jpg']
    data = [p.read_bytes() for p in paths]
    table = {
        'bytes': {'jpg': data},
        'struct': {'image': [{'bytes': d, 'path': 'x'} for d in data]},
        'path': {'Path': [str(p) for p in paths]},
    }[kind]
    pq.write_table(pa.table({**table, 'url': ['a', 'b', 'c']}), tmp_path / 'x.parquet', row_group_size=2)
    assert [read_image(ref) for _, ref in find_images_of(str(tmp_path / 'x.parquet'))] == data
    pq.write_table(pa.table({'url': ['a']}), tmp_path / 'y.parquet')
    with pytest.raises(UserError, match='y.parquet: has neither paths .* nor bytes .* its columns are url'):
        list(find_images_of(str(tmp_path / 'y.parquet')))


def score(crawl, out, config=CONFIG, part_size=5):
    """What Ray does, without it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = write_list(str(crawl), out / 'list', part_size, 3)
    worker = Worker(config, list(config['stages']), True, str(out / 'notes'))
    for part in range(len(listed['parts'])):
        (out / f'scores/{part:05d}').mkdir(parents=True)
        table = pa.concat_tables([pq.read_table(p) for p in sorted((out / f'list/{part:05d}').iterdir())])
        pq.write_table(worker(read_batch(table)), out / f'scores/{part:05d}/0.parquet')
    return listed['parts']


@needs('pyarrow')
def test_a_bad_image_costs_itself_alone_and_no_image_is_lost(crawl, tmp_path):
    import pyarrow.parquet as pq

    parts = score(crawl, tmp_path / 'out')
    assert parts == [5, 3]
    rows = pq.read_table(tmp_path / 'out/scores').to_pylist()
    assert sorted(row['id'] for row in rows) == list(range(8))
    errors = {row['name']: row['error'] for row in rows if row['error']}
    assert errors.keys() == {'0/4.jpg', '1/5.jpg', '1/3.jpg'}
    assert 'empty' in errors['0/4.jpg'] and 'truncated' in errors['1/5.jpg']
    assert errors['1/3.jpg'] == 'fussy: ZeroDivisionError: what a library does'
    assert {row['name']: row['wide'] for row in rows}['1/7.jpg'] == 150


@needs('pyarrow')
def test_a_stage_that_always_fails_ends_the_run(crawl, tmp_path):
    @CURATION_STAGES.register_module(force=True)
    class Broken(Stage):
        def score(self, items):
            raise RuntimeError('no such file: weights')

    for number in range(8, 24):
        (crawl / f'{number}.jpg').write_bytes(jpeg(number))
    with pytest.raises(UserError, match="stage 'x' fails on too many images .max_failed.: RuntimeError: no such file"):
        score(crawl, tmp_path / 'out', {'stages': {'x': dict(type='Broken')}}, 100)


def test_a_closed_gate_is_seen_when_thresholds_open_it_later():
    stages = build_stages(CONFIG)
    row = dict(error=None, height=40, width=80, bytes=9, wide=None)
    assert reasons_of(row, stages) == ['too small']
    stages[0].thresholds = dict(min_side=30)
    assert reasons_of(row, stages) == ['not scored']
    assert reasons_of({**row, 'height': 60, 'wide': 200.0}, stages) == ['wide']
    assert reasons_of({**row, 'height': 60, 'wide': 100.0}, stages) == []


@needs('pyarrow')
def test_decisions_and_shards_that_training_reads(crawl, tmp_path):
    import pyarrow.parquet as pq

    out, config = tmp_path / 'out', {**CONFIG, 'pack': dict(samples=2)}
    parts = score(crawl, out)
    kept = []
    for part in range(len(parts)):
        decide_part(config, out, part)
        kept.append(finish_part(out, part, np.array([-1, 0, -1, -1, -1][: parts[part]])))
    rows = pq.read_table(out / 'decisions').to_pylist()
    assert {row['name']: row['reason'] for row in rows} == {
        '0/0.jpg': None, '0/2.jpg': 'duplicate', '0/4.jpg': 'unreadable', '0/6.jpg': 'wide', '1/1.jpg': None,
        '1/3.jpg': 'a stage failed', '1/5.jpg': 'duplicate', '1/7.jpg': 'wide',
    }  # fmt: skip
    assert kept == [2, 0]
    (crawl / '1/1.jpg').unlink()
    lost = pack_shard(out, out / 'shards', 0, 0, config['pack'])
    assert len(lost) == 1 and lost[0][0].endswith('1/1.jpg')
    (out / 'shards' / RECORD).write_text('{}')  # does not stand in a reader's way
    data = ShardImageDataset(str(out / 'shards'), pipeline=[])
    assert len(data) == 1 and read_image(data.get_data_info(0)['img_path']) == (crawl / '0/0.jpg').read_bytes()
    pack_shard(out, out / 'small', 0, 0, {**config['pack'], 'short_side': 20})
    small = ShardImageDataset(str(out / 'small'), pipeline=[]).get_data_info(0)['img_path']
    assert min(decode_image(read_image(small), small).shape[:2]) == 20


def pairs(*rows):
    a, b, kind, distance = zip(*rows, strict=True)
    return dict(a=np.array(a), b=np.array(b), kind=np.array(kind), distance=np.array(distance, float))


@pytest.mark.parametrize(
    ('found', 'passing', 'expected'),
    [
        # The best of a group stays, whoever comes first.
        (pairs((0, 1, 'hash', 1), (0, 2, 'hash', 2), (1, 2, 'hash', 1)), [1, 1, 1, 1], [2, 2, -1, -1]),
        # Copies of equal hash, whose first does not pass: another speaks for them.
        (pairs((0, 1, 'same', 0), (0, 2, 'same', 0), (0, 3, 'hash', 2)), [0, 1, 1, 1], [-1, 3, 3, -1]),
        # A chain: 1 is near to 2, 2 to 3, but 1 not to 3.
        (pairs((1, 2, 'hash', 3), (2, 3, 'hash', 3)), [1, 1, 1, 1], [-1, -1, 3, -1]),
        # Too far.
        (pairs((0, 1, 'hash', 5), (1, 2, 'embedding', 0.06)), [1, 1, 1, 1], [-1, -1, -1, -1]),
        (pairs((0, 1, 'embedding', 0.05)), [1, 1, 1, 1], [1, -1, -1, -1]),
    ],
)
def test_the_best_of_near_images_stays(found, passing, expected):
    value = np.array([1.0, 2, 3, 4])
    assert choose(4, np.array(passing, bool), value, found, bits=4, cosine=0.95).tolist() == expected


@needs('faiss')
@pytest.mark.parametrize('exact', [True, False])
def test_pairs_of_hashes(exact, monkeypatch):
    if not exact:
        monkeypatch.setattr('sapiens.curation.duplicates.EXACT', 1)
    rng = np.random.default_rng(0)
    hashes = rng.integers(-(2**63), 2**63, 500)
    hashes[1], hashes[2] = hashes[0], hashes[0] ^ 0b1011  # equal, and 3 bits away
    mirrors = rng.integers(-(2**63), 2**63, 500)
    mirrors[3] = hashes[4] ^ (1 << 40)
    same, near = hash_pairs(np.arange(500) + 7, hashes, mirrors, 4)
    assert [same['a'].tolist(), same['b'].tolist()] == [[7], [8]]
    found = {(a, b, int(d)) for a, b, d in zip(near['a'], near['b'], near['distance'], strict=True)}
    assert {tuple(sorted(pair[:2])) + pair[2:] for pair in found} == {(7, 9, 3), (10, 11, 1)}


@needs('faiss')
@pytest.mark.parametrize('exact', [True, False])
def test_pairs_of_embeddings_that_all_point_one_way(exact, monkeypatch):
    if not exact:
        monkeypatch.setattr('sapiens.curation.duplicates.EXACT', 1000)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 32)).astype(np.float32) + 30
    vectors[10] = vectors[2000] + 0.01
    found = embedding_pairs(np.arange(3000), vectors.astype(np.float16), 0.95)
    assert (found['a'].tolist(), found['b'].tolist()) == ([10], [2000]) and found['distance'][0] < 0.01


def test_ray_that_is_slow_to_start_gets_another_chance_and_then_one_line(monkeypatch):
    from sapiens.curation import cluster

    calls = []

    def init(**options):
        calls.append(options)
        if len(calls) != 3:
            raise Exception('The current node timed out\nduring startup')

    ray = types.SimpleNamespace(init=init, shutdown=lambda: calls.append('down'))
    monkeypatch.setattr(cluster, 'need', lambda *_, **__: ray)
    stages = build_stages({'stages': {'size': dict(type='ImageSize')}})
    cluster.Cluster(stages, num_cpus=2)
    assert [call == 'down' for call in calls] == [False, True, False] and calls[2]['num_cpus'] >= 2 + cluster.SPARE
    with pytest.raises(
        UserError, match='Ray does not start on this machine .The current node timed out during startup'
    ):
        cluster.Cluster(stages, num_cpus=2)


@pytest.mark.skipif(bool(importlib.util.find_spec('ray')), reason='the extra is there')
def test_without_the_extra_it_says_how_to_get_it(crawl, tmp_path):
    from sapiens.curation.curate import curate

    with pytest.raises(MissingPackageError, match=r"curation needs ray: pip install 'sapiens-toolkit\[curation\]'"):
        curate(CONFIG, str(crawl), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@needs('ray', 'pyarrow')
def test_a_source_that_is_not_there_leaves_no_scores(tmp_path):
    from sapiens.curation.curate import curate

    with pytest.raises(UserError, match=r'missing: is no folder, .txt, .tar or .parquet'):
        curate(CONFIG, str(tmp_path / 'missing'), tmp_path / 'out')
    assert not (tmp_path / 'out/scores').exists()


def test_scores_of_another_config_are_refused(tmp_path):
    from sapiens.curation.curate import _same_scores

    path, config = tmp_path / 'scores/stages.json', {**CONFIG, 'view': 640}
    _same_scores(path, config)
    size, fussy = config['stages'].items()
    _same_scores(path, {**config, 'max_failed': 0.5, 'stages': dict([size, ('fussy', dict(type='Fussy'))])})
    for other, words in (
        ({**config, 'view': 320}, 'view or max_pixels differs'),
        ({**config, 'max_pixels': 1e9}, 'view or max_pixels differs'),
        ({**config, 'stages': dict([fussy, size])}, 'the stages are reordered'),
        ({**config, 'stages': dict([size])}, "stage 'fussy' differs in more than its thresholds"),
    ):
        with pytest.raises(UserError, match=f'holds scores of another config .{words}.; give another folder'):
            _same_scores(path, other)
    # A folder of before these were kept goes on.
    path.write_text(json.dumps({key: part for key, part in json.loads(path.read_text()).items() if key != 'decoding'}))
    _same_scores(path, {**config, 'view': 320})


def test_the_configs_name_stages_and_thresholds_that_exist():
    from sapiens.engine.config import load_config

    for name in ('humans', 'humans_offline', 'made_set'):
        config = load_config(ROOT / f'configs/curation/{name}.py', {}).to_dict()
        stages = {key: part for key, part in config['stages'].items() if part is not None}
        assert {'size', 'hash', 'persons', 'embedding', 'text'} <= {s.name for s in build_stages({'stages': stages})}


@pytest.mark.slow
@needs('ray', 'pyarrow', 'imagehash', 'faiss')
def test_a_killed_run_goes_on_and_other_thresholds_repeat_the_last_job(tmp_path):
    """The real thing: Ray, killed with its children, resumed; then trained on."""
    import pyarrow.parquet as pq

    crawl = tmp_path / 'crawl'
    crawl.mkdir()
    for number in range(200):
        (crawl / f'{number:03d}.jpg').write_bytes(jpeg(number, (400, 300 + number % 7)))
    (crawl / '007.jpg').write_bytes(b'')
    (tmp_path / 'config.py').write_text(
        "stages = dict(size=dict(type='ImageSize', reject=dict(min_side=200)), hash=dict(type='PerceptualHash'))\n"
        'pack = dict(samples=100)\nblock, block_mb = 10, 0.1\nduplicates = dict(max_bits=0)\n'
    )
    command = [
        sys.executable,
        '-m',
        'sapiens',
        'curate',
        str(tmp_path / 'config.py'),
        str(crawl),
        str(tmp_path / 'out'),
    ]
    command += ['--num-cpus', '2', '--store-mb', '128']
    # Ray's own niceness of 15 starves its processes on a machine with other work.
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'RAY_worker_niceness': '0'}

    def run(*options):
        subprocess.run([*command, *options], cwd=tmp_path, env=env, check=True, timeout=LIMIT)

    first = subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True)
    scores, end = tmp_path / 'out/scores/00000', time.monotonic() + LIMIT
    while first.poll() is None and len(list(scores.glob('*.parquet'))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait(LIMIT) == -signal.SIGKILL
    done = sum(pq.read_metadata(p).num_rows for p in scores.glob('*.parquet'))
    assert 0 < done < 200
    run()
    assert sorted(pq.read_table(scores)['id'].to_pylist()) == list(range(200))
    assert (tmp_path / 'out/failed.txt').read_text().startswith('007.jpg\tread: 007.jpg: the image file is empty')
    assert json.loads((tmp_path / 'out/shards/packed.json').read_text())['kept'] == 199
    before = {p: p.stat().st_mtime_ns for p in scores.iterdir()}
    run('--cfg-options', 'stages.size.reject.min_side=303')
    known = json.loads((tmp_path / 'out/shards/packed.json').read_text())
    assert known['kept'] == sum(300 + n % 7 >= 303 for n in range(200) if n != 7)
    assert before == {p: p.stat().st_mtime_ns for p in scores.iterdir()}
    assert len(ShardImageDataset(str(tmp_path / 'out/shards'), pipeline=[])) == known['kept']
    options = ['train_cfg.max_iters=2', 'input_size=(32,32)', 'train_dataloader.batch_size=4', 'param_scheduler=None',
               'train_dataloader.dataset.type=ShardImageDataset', 'train_dataloader.dataset.data_root=out/shards',
               'val_dataloader=None']  # fmt: skip
    train = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / 'configs/pretrain/sapiens_tiny_mae.py')]
    command = [*train, '--work-dir', 'mae', '--cfg-options', *options]
    run()
    assert (tmp_path / 'mae/iter_2.pth').is_file()
