# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What can go wrong, from the command line: one line that names the file and the mend, and nothing half written."""

import errno
import importlib
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'tests/e2e'))
from made_people import write_people  # noqa: E402

from sapiens.errors import run_cli  # noqa: E402

TRAIN, TEST, CHECK, BROWSE = (f'tools/{name}.py' for name in ('train', 'test', 'check_dataset', 'browse_dataset'))
PHOTO = ROOT / 'demo/images/000000000785.jpg'
SMALL = dict(
    _delete_=True,
    type='SapiensViT',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=(64, 48),
)
LOADER = dict(batch_size=2, num_workers=0, persistent_workers=False)


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """Four made samples with every label, not to be changed."""
    return write_people(tmp_path_factory.mktemp('people') / 'data', count=4, size=(64, 48))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)


def write_config(base, name='config.py', **changes):
    """A config file that inherits ours and changes parts of it."""
    text = ''.join(f'{key} = {value!r}\n' for key, value in changes.items())
    Path(name).write_text(f'_base_ = {str(ROOT / "configs" / base)!r}\n{text}')
    return name


def four_tasks(folder, name='config.py', **changes):
    """All tasks at toy size on the manifest in ``folder``, for one iteration."""
    loader = dict(LOADER, dataset=dict(data_root=str(Path(folder).resolve()), input_size=(64, 48)))
    heads = {task: dict(deconv_channels=(8, 8), conv_channels=(8,)) for task in ('pose', 'seg', 'depth', 'normal')}
    settings = dict(
        model=dict(backbone=SMALL, heads=heads),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(max_iters=1, val_interval=1),
        load_from=None,
        optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=1.0)),
        default_hooks=dict(checkpoint=dict(interval=1, save_best=None)),
        visualizer=dict(vis_backends=[]),
        custom_hooks=[dict(type='BadSampleHook')],
        work_dir='work',
    )
    return write_config('multitask/sapiens_0.3b_4tasks.py', name, **{**settings, **changes})


def keypoints17(ann_file, folder, name='config.py'):
    """17 keypoints at toy size on a COCO-style file."""
    loader = dict(LOADER, dataset=dict(data_root='', ann_file=str(ann_file), data_prefix=dict(img=str(folder)),
                                       input_size=(64, 48)))  # fmt: skip
    return write_config(
        'pose/sapiens_tiny_17kpt.py',
        name,
        model=dict(backbone=SMALL, heads=dict(pose=dict(deconv_channels=(8, 8), conv_channels=(8,)))),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=dict(ann_file=str(ann_file)),
        train_cfg=dict(max_iters=1, val_interval=9),
        visualizer=dict(vis_backends=[]),
        work_dir='work',
    )


def pretraining(folder, iterations, batch, validate=256):
    """MAE at toy size on a folder of images."""
    loader = dict(LOADER, batch_size=batch, dataset=dict(data_root=str(Path(folder).resolve()), input_size=(32, 32)))
    watch = dict(loader, dataset=dict(loader['dataset'], indices=validate))
    return write_config(
        'pretrain/sapiens_tiny_mae.py',
        model=dict(
            backbone=dict(SMALL, img_size=(32, 32), with_cls_token=True),
            neck=dict(embed_dims=16, num_layers=1, num_heads=2),
        ),
        train_dataloader=loader,
        val_dataloader=watch,
        test_dataloader=watch,
        train_cfg=dict(max_iters=iterations, val_interval=99),
        default_hooks=dict(checkpoint=dict(interval=iterations, save_best=None)),
        visualizer=dict(vis_backends=[]),
        custom_hooks=[dict(type='BadSampleHook')],
        work_dir='work',
    )


def fails(result, message, before_training=True):
    """One line on stderr, exit code 1 and, unless training had begun, no checkpoint."""
    assert result.code == 1, result.out[-2000:]
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: '), result.err
    assert re.search(message, lines[0]), lines[0]
    assert 'Traceback' not in result.out
    assert not before_training or not list(Path('work').rglob('*.pth'))
    assert not list(Path().rglob('*.tmp'))


# ---------------------------------------------------------------- images


def exif_image(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=98, subsampling=0, exif=exif)
    return buffer.getvalue()


def pillow_image(image, mode, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def odd_images(image):
    """File name -> bytes of one picture in all forms that must work."""
    return {
        'rgb.png': pillow_image(image, 'RGB', 'PNG'),
        'exif6.jpg': exif_image(np.ascontiguousarray(np.rot90(image)), 6),
        'grey.jpg': pillow_image(image, 'L', 'JPEG', quality=98),
        'grey_alpha.png': pillow_image(image, 'LA', 'PNG'),
        'palette.png': pillow_image(image, 'P', 'PNG'),
        'rgba.png': pillow_image(image, 'RGBA', 'PNG'),
        'cmyk.jpg': pillow_image(image, 'CMYK', 'JPEG', quality=98),
        'sixteen.png': cv2.imencode('.png', image[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
        'sixteen_grey.png': cv2.imencode('.png', image[..., 0].astype(np.uint16) * 257)[1].tobytes(),
    }


def test_odd_images_work_everywhere(run_script, tmp_path):
    photo = cv2.resize(cv2.imread(str(PHOTO))[..., ::-1], (60, 40), interpolation=cv2.INTER_AREA)
    photo[:, :30] //= 2
    Path('images').mkdir()
    for name, data in odd_images(np.ascontiguousarray(photo)).items():
        (Path('images') / name).write_bytes(data)
    config = pretraining('images', 2, 5)
    assert 'nothing wrong' in run_script(CHECK, config, '--workers', 0).out
    result = run_script(TRAIN, config)
    assert result.code == 0 and Path('work/iter_2.pth').is_file(), result.err
    assert not Path('work/bad_samples.json').exists() or json.loads(Path('work/bad_samples.json').read_text()) == []
    assert run_script(TEST, config, 'work/iter_2.pth').code == 0
    assert run_script(BROWSE, config, '--split', 'val', '--num', 9, '--out-dir', 'browse').code == 0
    seen = {p.name.partition('.')[0][5:]: cv2.imread(str(p)).astype(int) for p in Path('browse').iterdir()}
    plain = seen['rgb']
    assert len(seen) == 9
    for name in ('exif6', 'rgba', 'cmyk', 'sixteen'):
        assert np.abs(seen[name] - plain).mean() < 5, name
    assert np.abs(seen['grey'] - seen['grey_alpha']).mean() < 3
    upside = np.abs(seen['exif6'] - plain[::-1, ::-1]).mean()
    assert upside > 15, 'the comparison would notice another rotation'


JPEG = PHOTO.read_bytes()
BROKEN = {
    'missing': (None, r'no such file; check the path'),
    'empty': (b'', r'empty \(0 bytes\); replace it'),
    'text': (b'These are words.\n' * 9, 'is a text file; replace it by a JPEG'),
    'truncated': (JPEG[: len(JPEG) // 2], 'is truncated; copy it again'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_unreadable_images_are_named(run_script, people, kind):
    data, message = BROKEN[kind]
    folder = shutil.copytree(people, 'data')
    for image in (folder / 'images').iterdir() if isinstance(folder, Path) else Path(folder, 'images').iterdir():
        image.unlink()
        if data is not None:
            image.write_bytes(data)
    config = four_tasks('data')
    fails(run_script(TRAIN, config), rf'data/images/00000\d.jpg: .*{message}')
    fails(run_script(BROWSE, config), rf'data/images/000000.jpg: .*{message}')
    found = run_script(CHECK, config, '--workers', 0, '--fix-list', 'list.jsonl')
    assert found.code == 1 and '4 of 4 samples have problems' in ' '.join(found.out.split())
    first = json.loads(Path('list.jsonl').read_text().splitlines()[0])
    assert first['kind'] == ('missing file' if data is None else 'unreadable image')
    assert first['file'].endswith('data/images/000000.jpg') and re.search(message, first['detail'])


def test_few_unreadable_images_are_skipped_and_listed_and_many_stop(run_script):
    Path('images').mkdir()
    for i in range(120):
        cv2.imwrite(f'images/{i:03d}.jpg', np.full((40, 40, 3), i, np.uint8))
    Path('images/007.jpg').write_bytes(b'')
    # Three batches of 40 take every image once.
    config = pretraining('images', 3, 40, validate=2)
    result = run_script(TRAIN, config)
    assert result.code == 0, result.err
    (listed,) = json.loads(Path('work/bad_samples.json').read_text())
    assert listed['index'] == 7 and 'images/007.jpg: the image file is empty' in listed['reason']
    assert '1 of 120' in result.out and 'images/007.jpg' in result.out
    drawn = run_script(BROWSE, config, '--num', 120, '--out-dir', 'browse')
    assert drawn.code == 0 and '119 pictures' in drawn.out and 'left out: ' in drawn.err and '007.jpg' in drawn.err
    shutil.rmtree('work')
    Path('images/080.jpg').write_bytes(JPEG[:9000])
    many = r'2 of 120 samples cannot be read, more than 1.0%; first: \S*images/0(07|80)\.jpg'
    fails(run_script(TRAIN, config), many, before_training=False)
    assert {item['index'] for item in json.loads(Path('work/bad_samples.json').read_text())} == {7, 80}
    # The share is the user's choice.
    more = ['--cfg-options', 'custom_hooks.0.max_fraction=0.5']
    assert run_script(TRAIN, config, *more).code == 0


# ---------------------------------------------------------------- annotations


def truncate(text):
    return text[: len(text) // 2]


def change(**fields):
    """Change fields of the first annotation, or of the document where the name is one of its own."""

    def apply(text):
        document = json.loads(text)
        for key, value in fields.items():
            owner = document if key in document else document['annotations'][0]
            owner[key] = value(owner.get(key)) if callable(value) else value
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (None, 'labels.json: no such annotation file; check the path'),
        (truncate, 'labels.json: not valid JSON .*; mend the file'),
        (lambda text: '', 'labels.json: not valid JSON .*; mend the file'),
        (lambda text: '[1, 2]', 'labels.json: lacks annotations, images; give a COCO-style'),
        (change(keypoints=lambda k: k[:48]), 'labels.json: annotation 442619 has 16 keypoints, the vocabulary has 17'),
        (change(keypoints=['a'] * 51), 'labels.json: annotation 442619 has keypoints that are no numbers; mend'),
        (change(keypoints='none'), 'labels.json: annotation 442619 has "keypoints" that are no list of numbers'),
        (change(bbox=[1, 2, 3]), 'labels.json: annotation 442619 needs a "bbox" of four numbers'),
        (change(bbox=['a'] * 4), 'labels.json: annotation 442619 needs a "bbox" of four numbers'),
        (change(image_id=7), 'labels.json: annotation 442619 belongs to image 7, which is not listed'),
        (change(images=[{'id': 785}]), 'labels.json: image 785 has no "file_name"; mend the file'),
        (change(images=[785]), 'labels.json: every image needs an "id"; mend the file'),
        (change(annotations=[None]), 'labels.json: "annotations" is no list of {...}; mend the file'),
        (change(annotations=[]), r'labels.json\): the data set is empty; check the file'),
        (
            change(bbox=[1, 1, 0, 0], keypoints=[0] * 51),
            r'labels.json\): the data set is empty; .* have boxes and labelled points',
        ),
        (change(images=lambda i: [{**i[0], 'file_name': 'gone.jpg'}]), 'gone.jpg: no such file; check the path'),
    ],
)
def test_malformed_annotations_are_named(run_script, break_it, message):
    if break_it is not None:
        Path('labels.json').write_text(break_it((ROOT / 'tests/data/coco_785.json').read_text()))
    config = keypoints17('labels.json', PHOTO.parent)
    fails(run_script(TRAIN, config), message)
    fails(run_script(BROWSE, config), message)
    if 'gone.jpg' not in message:  # that is one of the problems which the check lists
        fails(run_script(CHECK, config), message)


def rewrite(**fields):
    """Change fields of every line of a manifest."""

    def apply(folder):
        path = Path(folder, 'manifest.jsonl')
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            record.update({key: v(record[key]) if callable(v) else v for key, v in fields.items()})
        path.write_text('\n'.join(map(json.dumps, records)))

    return apply


def person(**fields):
    return rewrite(persons=lambda people: [{**people[0], **fields}])


def header(**fields):
    def apply(folder):
        path = Path(folder, 'manifest.json')
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return apply


def label(value):
    def apply(folder):
        for path in Path(folder, 'parts').iterdir():
            parts = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            parts[5, 5] = value
            cv2.imwrite(str(path), parts)

    return apply


def file(name, text):
    return lambda folder: Path(folder, name).write_text(text)


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda folder: Path(folder, 'manifest.json').unlink(), 'data/manifest.json: no such file; check the path'),
        (lambda folder: Path(folder, 'manifest.jsonl').unlink(), 'data/manifest.jsonl: no such file; check the path'),
        (file('manifest.json', '{'), 'data/manifest.json: not valid JSON'),
        (file('manifest.jsonl', '{"id": "a"'), 'data/manifest.jsonl#line 1: not valid JSON'),
        (file('manifest.jsonl', '[1]'), 'data/manifest.jsonl#line 1: must hold a JSON object'),
        (file('manifest.jsonl', ''), r'HumanManifestDataset \(\S*data\): the data set is empty'),
        (header(keypoints='coco18'), "unknown vocabulary 'coco18': did you mean 'coco17'"),
        (header(files='manifest.jsonl'), 'data/manifest.json: "files" must be a list of file names'),
        (header(depth_scale='a'), 'data/manifest.json: "depth_scale" must be a number above 0'),
        (rewrite(image=3), 'data/manifest.jsonl#line 1: the sample has no "image"'),
        (rewrite(persons={'a': 1}), 'data/manifest.jsonl#line 1: "persons" must be a list of {...}'),
        (rewrite(persons=[None]), 'data/manifest.jsonl#line 1: "persons" must be a list of {...}'),
        (rewrite(persons=[]), r'HumanManifestDataset \(\S*data\): the data set is empty'),
        (person(keypoints=[[1, 2, 2]] * 17), 'person 0 has 17 keypoints, the vocabulary has 308'),
        (person(keypoints='abc'), r'data/manifest.jsonl#line 1: person 0 has \S*keypoints\S* that are no list'),
        (person(bbox='abcd'), r'data/manifest.jsonl#line \d: person 0 needs a \S*bbox\S* of four numbers'),
        (label(200), "data/parts/00000..png: label 200 is outside the 28 classes of 'parts28'"),
        (label(28), "data/parts/00000..png: label 28 is outside the 28 classes of 'parts28'"),
    ],
)
def test_malformed_manifests_and_labels_are_named(run_script, people, break_it, message):
    shutil.copytree(people, 'data')
    break_it('data')
    config = four_tasks('data')
    fails(run_script(TRAIN, config), message)
    fails(run_script(BROWSE, config), message)
    found = run_script(CHECK, config, '--workers', 0, '--fix-list', 'list.jsonl')
    assert found.code == 1
    listed = Path('list.jsonl').read_text() if Path('list.jsonl').exists() else ''
    assert re.search(message, found.err + listed)


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('modl.backbone=3', "'modl' is no key of config.py; did you mean 'model'"),
        ('custom_hooks.7.type=A', 'custom_hooks.7.type does not fit config.py: Index 7 exceeds the length of list$'),
        ('model.backbon.arch=tiny', "HumanEstimator has no argument 'backbon'; did you mean 'backbone'"),
        ('model.type=HumanEstimater', "'HumanEstimater' is not a registered model; did you mean 'HumanEstimator'"),
        ('model.heads.pose.vocabulary=keypoint308', "'keypoint308': did you mean 'keypoints308'"),
        ('model.heads.seg.loss.type=CrossEntropi', "'CrossEntropi' is not a registered model"),
        ('model.heads.pose.deconv_channels=abc', 'PoseHead: '),
        ('model.backbone.arch=9b', "unknown arch '9b' of SapiensViT; known are tiny"),
        ('model.backbone.img_size=5', r'UDPHeatmap: heatmaps of 1 x 1 are too small; check img_size'),
        ('train_cfg.max_iters=abc', "train_cfg.max_iters is 'abc'; give a whole number"),
        ('train_cfg.max_iter=3', "IterBasedTrainLoop has no argument 'max_iter'; did you mean 'max_iters'"),
        ('optim_wrapper.optimizer.type=Adamm', "'Adamm' is not a registered optimizer; did you mean 'Adam'"),
        ('optim_wrapper.optimizer.lrr=1', "AdamW has no argument 'lrr'; did you mean 'lr'"),
        ('optim_wrapper.optimizer.lr=abc', 'optim_wrapper: TypeError'),
        ('param_scheduler.0.type=LinerLR', "'LinerLR' is not a registered parameter scheduler"),
        ('param_scheduler.0.stat_factor=1', "LinearLR has no argument 'stat_factor'; did you mean 'start_factor'"),
        ('train_dataloader.batch_size=0', 'train_dataloader: ValueError: batch_size should be a positive integer'),
        ('train_dataloader.num_worker=2', "DataLoader has no argument 'num_worker'; did you mean 'num_workers'"),
        ('train_dataloader.sampler.type=DefaultSample', "did you mean 'DefaultSampler'"),
        ('train_dataloader.collate_fn.type=colate', 'train_dataloader: '),
        ('train_dataloader.dataset.type=HumanManifestDatset', "did you mean 'HumanManifestDataset'"),
        (
            'train_dataloader.dataset.datroot=x',
            "HumanManifestDataset has no argument 'datroot'; did you mean 'data_root",
        ),
        ('train_dataloader.dataset.keypoint_vocabulary=coco18', "vocabulary 'coco18': did you mean 'coco17'"),
        ('train_dataloader.dataset.pipeline.0.type=PersnBox', "not a registered transform; did you mean 'PersonBox'"),
        ('train_dataloader.dataset.pipeline.0.paddin=1', "PersonBox has no argument 'paddin'; did you mean 'padding'"),
        ('train_dataloader.dataset.background=/nowhere', '/nowhere: no such folder'),
        ('val_evaluator.0.type=PCKK', "'PCKK' is not a registered metric; did you mean 'PCK'"),
        ('val_evaluator.0.vocab=1', "PCK has no argument 'vocab'; did you mean 'vocabulary'"),
        (
            'default_hooks.checkpoint.intervall=3',
            "SafeCheckpointHook has no argument 'intervall'; did you mean 'interval",
        ),
        ('custom_hooks.0.type=BadSampelHook', "did you mean 'BadSampleHook'"),
        ('load_from=gone.pth', 'gone.pth: no such checkpoint'),
        (
            'train_dataloader=5',
            r'train_dataloader is a dict in .*, not 5; set what is in it \(train_dataloader\.\w+=...',
        ),
        ('model.heads.pose=dict(type=PoseHead)', r'model\.heads\.pose is a dict in .* \(model\.heads\.pose=None\)'),
        ('custom_hooks=EMAHook', r'custom_hooks is a list in .*\(custom_hooks\.0=...'),
        ('optim_wrapper=AdamW', 'optim_wrapper is a dict'),
        ('val_evaluator=None', r'config.py: the runner: ValueError: val_dataloader, val_cfg, and val_evaluator'),
        (
            'train_cfg.val_interval=0',
            r'train_cfg\.val_interval is 0; give a whole number of at least 1; val_dataloader',
        ),
        ('train_cfg.max_iters=0', r'train_cfg\.max_iters is 0; give a whole number of at least 1$'),
        ('train_cfg.val_begin=x', r"train_cfg\.val_begin is 'x'; give a whole number of at least 0"),
        ('train_cfg.dynamic_intervals=[(1,0)]', r'train_cfg\.dynamic_intervals is \[\(1, 0\)\]; give pairs of a step'),
        ('train_cfg.dynamic_intervals=[9]', r'train_cfg\.dynamic_intervals is \[9\]; give pairs of a step'),
        ('train_cfg.dynamic_intervals=[(9,2),(3,1)]', r'train_cfg\.dynamic_intervals is .*; give pairs of a step'),
        ('model.heads.pose.dropout=0.1', "PoseHead has no argument 'dropout'; it takes accuracy_interval, codec"),
        ('model.heads.seg.loss.class_weight=[1,2]', r'class_weight of the loss has 2 numbers, .* has \d+ classes'),
        ('model.heads.pose.codec.sigma=0', 'UDPHeatmap.sigma is 0; give a number above 0'),
        ('model.heads.seg.loss.type=SiLogLoss', 'PartHead: SiLogLoss is no WeightedCrossEntropy; leave loss out'),
        ('model.backbone.with_cp=every', "SapiensViT: ValueError: .*'every'"),
        ('model.heads.pose.deconv_channels=(-1,)', 'PoseHead: RuntimeError: Trying to create tensor with negative'),
        ('model.backbone.patch_size=0', 'SapiensViT: ZeroDivisionError'),
    ],
)
def test_wrong_options_are_named(run_script, people, option, message):
    fails(run_script(TRAIN, four_tasks(people), '--cfg-options', option), message)


def test_a_dict_as_an_option(run_script, people):
    result = run_script(TRAIN, four_tasks(people), '--cfg-options', "model.heads={'pose': (1, 2)}")
    assert result.code == 2 and 'give numbers, names, [lists] and (tuples); no dicts' in result.err, result.err


def test_a_loader_without_a_data_set(run_script, people):
    options = ('--split', 'test', '--cfg-options', 'test_dataloader.dataset=None')
    fails(run_script(CHECK, four_tasks(people), *options), 'config.py: .*TypeError: cfg should be a dict')


def test_a_work_directory_is_no_checkpoint(run_script, people, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/iter_3.pth').touch()
    message = 'run: is a work directory; --work-dir .*run --resume continues'
    fails(run_script(TRAIN, four_tasks(people), '--resume', tmp_path / 'run'), message)


@pytest.mark.parametrize('script', [TRAIN, TEST, CHECK, BROWSE, 'tools/get_flops.py'])
def test_configs_that_are_none(run_script, script):
    rest = ['x.pth'] if script == TEST else []
    near = "no such config; did you mean 'configs/seg/sapiens_1b_28cls.py'"
    fails(run_script(script, 'configs/seg/sapiens_1b_28clss.py', *rest), near)
    for name, content, message in (
        ('syntax.py', b'a = (\n', r'syntax.py:1: .* never closed'),
        ('empty.py', b'', 'empty.py: has no (train_dataloader|test_dataloader|model)'),
        ('binary.py', bytes(range(256)), 'binary.py: is not UTF-8 text; save it as UTF-8'),
        ('words.txt', b'hello', r'words.txt: a config is a \.py file'),
        ('base.py', b"_base_ = 'gone.py'", "base.py:1: _base_ 'gone.py' does not exist"),
    ):
        Path(name).write_bytes(content)
        fails(run_script(script, name, *rest), message)


def test_a_part_without_a_type_is_shown(run_script, people):
    config = four_tasks(people, model=dict(_delete_=True, backbone=dict(arch=3)))
    for script in (TRAIN, 'tools/get_flops.py'):
        fails(run_script(script, config), r": a model needs a 'type', this has none: \{'backbone': ")


def test_developers_can_have_the_traceback(run_script, people, monkeypatch):
    monkeypatch.setenv('SAPIENS_TRACEBACK', '1')
    with pytest.raises(TypeError, match='max_iter'):
        run_script(TRAIN, four_tasks(people), '--cfg-options', 'train_cfg.max_iter=3')


# ---------------------------------------------------------------- checkpoints


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path('owned'),)


def test_checkpoints_of_other_models_and_files_that_are_none(run_script, people):
    config = four_tasks(people)
    assert run_script(TRAIN, config).code == 0
    good = Path('good.pth')
    Path('work/iter_1.pth').rename(good)
    shutil.rmtree('work')
    Path('empty.pth').write_bytes(b'')
    Path('cut.pth').write_bytes(good.read_bytes()[:5000])
    torch.save({'state_dict': {'a': Evil()}}, 'evil.pth')
    Path('folder').mkdir()
    for name, message in (
        ('empty.pth', r'empty.pth: the checkpoint is empty \(0 bytes\); copy or download it again'),
        ('cut.pth', r'cut.pth: damaged or truncated checkpoint .*; copy or download it again'),
        ('evil.pth', r'evil.pth: refused, since loading it could run code'),
        ('gone.pth', r'gone.pth: no such checkpoint file; did you mean .good.pth'),
        ('folder', r'folder: is a folder, not a checkpoint file'),
    ):
        fails(run_script(TEST, config, name, '--out', 'result'), message)
        assert not Path('result').exists()
    assert not Path('owned').exists()

    other = keypoints17(ROOT / 'tests/data/coco_785.json', PHOTO.parent, 'other.py')
    message = r'good.pth: its pose head has 308 keypoints \(keypoints308\), the config expects 17 \(coco17\)'
    fails(run_script(TEST, other, good), message)
    fails(run_script(TRAIN, other, '--resume', good), message)
    heads = {task: dict(deconv_channels=(8, 8), conv_channels=(8,)) for task in ('pose', 'seg', 'depth', 'normal')}
    backbone = dict(SMALL, arch=dict(SMALL['arch'], embed_dims=32))
    wider = four_tasks(people, 'wider.py', model=dict(backbone=backbone, heads=heads))
    fails(
        run_script(TEST, wider, good), r'good.pth: backbone\.\S+ does not fit: the model expects \[.*32.*the file has'
    )
    for option in ('--out', '--show-dir'):
        fails(run_script(TEST, config, good, option, 'empty.pth'), f'{option} empty.pth: is a file; give a folder')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('script', [TRAIN, TEST])
def test_a_gpu_where_none_is(run_script, people, script):
    rest = ['x.pth'] if script == TEST else []
    fails(
        run_script(script, four_tasks(people), *rest, '--device', 'cuda'), 'PyTorch sees no GPU .* leave --device out'
    )


# ---------------------------------------------------------------- logs


def test_logs(run_script):
    fails(run_script('tools/analyze_logs.py', 'gone'), 'gone: no log in it')
    run = Path('run/1/vis_data')
    run.mkdir(parents=True)
    (run / 'scalars.json').write_text('{"loss": 1.0, "step": 1}\n{"loss": 0.5, "step": 2}\n')
    fails(
        run_script('tools/analyze_logs.py', 'run', '--keys', 'AP', '--out', 'x.png'), "'AP' was not logged; logged are"
    )
    fails(run_script('tools/analyze_logs.py', 'run', '--out', 'x.jpg'), r'x.jpg: give a .png, .svg or .pdf file')
    assert not Path('x.png').exists()


# ---------------------------------------------------------------- stopped from outside


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_command_like_ctrl_c(capsys, number):
    put_in_order = []

    def work():
        try:
            os.kill(os.getpid(), number)
            raise AssertionError('went on')
        except:  # noqa: E722 - as mmengine does where it formats a config
            raise SyntaxError('of a library') from None
        finally:
            put_in_order.append(True)

    before = signal.signal(number, signal.SIG_DFL)  # under nohup a hang-up is ignored
    try:
        with pytest.raises(SystemExit) as end:
            run_cli(work)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert end.value.code == 130 and put_in_order and 'interrupted' in capsys.readouterr().err


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EBADF])
def test_a_full_disk_in_a_thread_is_no_traceback(capsys, monkeypatch, number):
    """TensorBoard's thread showed its own before the command ended with its line; other defects are still shown."""

    def write():
        raise OSError(number, os.strerror(number))

    def work():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(threading, 'excepthook', threading.__excepthook__)
    with pytest.raises(SystemExit):
        run_cli(work)
    err = capsys.readouterr().err
    assert ('Traceback' in err) == (number == errno.EBADF) and threading.excepthook is threading.__excepthook__
    assert err.splitlines()[-1].startswith('error: the disk is full')


# ---------------------------------------------------------------- libraries of the system


@pytest.mark.parametrize(
    ('package', 'library', 'mend'),
    [
        ('cv2', 'libxcb.so.1', 'pip install opencv-python-headless'),
        ('cv2', 'libGL.so.1', 'apt-get install libgl1'),
        ('torch', 'libcudart.so.13', 'or torch anew'),
        ('OpenEXR', 'libz-1.2.so', 'or OpenEXR anew'),
    ],
)
def test_a_library_of_the_system_that_is_missing_is_one_line(capsys, monkeypatch, tmp_path, package, library, mend):
    """A slim container has no libGL and libxcb, which OpenCV's usual wheel needs."""
    failure = f'{library}: cannot open shared object file: No such file or directory'
    (tmp_path / f'{package}.py').write_text(f'import importlib\nraise ImportError({failure!r})')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: importlib.import_module(package))
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and mend in line
    assert f'{"OpenCV" if package == "cv2" else package} needs {library}, which this machine does not have' in line


def test_other_failed_imports_keep_their_traceback():
    with pytest.raises(ModuleNotFoundError):
        run_cli(lambda: importlib.import_module('no_such_module'))
