# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Each format is read, mistakes are named, unreadable samples are skipped and counted."""

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scenes import photos, sphere

from sapiens.datasets import (
    CocoKeypointDataset,
    HumanManifestDataset,
    ImageFolderDataset,
    ImageLabelFolderDataset,
    ManifestWriter,
    ShardImageDataset,
    pack_shards,
)
from sapiens.datasets.base import HumanDataset, lookup_table
from sapiens.datasets.check import check_dataset
from sapiens.datasets.shard_images import expand_shards
from sapiens.datasets.transforms import Resize
from sapiens.engine.loaders import build_train_dataloader
from sapiens.errors import UserError
from sapiens.registry import DATASETS
from sapiens.vocabularies import convert_keypoints

ROOT = Path(__file__).parents[2]
DATA = ROOT / 'tests/data'
PHOTO = ROOT / 'demo/images/000000000785.jpg'
PIPELINE = [dict(type='LoadImage'), dict(type='Resize', input_size=(32, 24)), dict(type='PackHumanInputs')]


def coco(ann_file='coco_785_wholebody.json', **options):
    options = {'keypoint_vocabulary': 'wholebody133', 'data_root': str(DATA), **options}
    return CocoKeypointDataset(ann_file, data_prefix=dict(img=str(PHOTO.parent)), **options)


def test_wholebody_fields_are_joined():
    (info,) = [coco().get_data_info(i) for i in range(len(coco()))]
    annotation = json.loads((DATA / 'coco_785_wholebody.json').read_text())['annotations'][0]
    points, visible = info['keypoints'], info['keypoints_visible']
    assert points.shape == (133, 2) and points.dtype == np.float32
    for field, start in (('keypoints', 0), ('foot_kpts', 17), ('face_kpts', 23), ('righthand_kpts', 112)):
        values = np.float32(annotation[field]).reshape(-1, 3)
        np.testing.assert_array_equal(points[start : start + len(values)], values[:, :2])
        assert (visible[start : start + len(values)] > 0).all()
    assert (visible[91:112] == 0).all(), 'lefthand_valid is false'
    np.testing.assert_allclose(info['bbox'], [280.79, 44.73, 499.49, 391.41], rtol=1e-5)
    assert info['area'] == pytest.approx(27789.11055)
    assert (info['img_id'], info['ann_id'], info['keypoint_vocabulary']) == (785, 442619, 'wholebody133')


def test_invalid_parts_do_not_count(tmp_path):
    document = json.loads((DATA / 'coco_785_wholebody.json').read_text())
    document['annotations'][0]['face_valid'] = False
    (tmp_path / 'a.json').write_text(json.dumps(document))
    assert (coco(str(tmp_path / 'a.json')).get_data_info(0)['keypoints_visible'][23:91] == 0).all()


def test_any_vocabulary_by_a_plain_list(tmp_path):
    document = json.loads((DATA / 'coco_785.json').read_text())
    assert coco('coco_785.json', keypoint_vocabulary='coco17').get_data_info(0)['keypoints'].shape == (17, 2)
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 400, (308, 2)), rng.integers(0, 3, (308, 1))], -1)
    document['annotations'][0]['keypoints'] = values.ravel().tolist()
    del document['categories'][0]['keypoints']
    (tmp_path / 'a.json').write_text(json.dumps(document))
    info = coco(str(tmp_path / 'a.json'), keypoint_vocabulary='keypoints308').get_data_info(0)
    np.testing.assert_allclose(info['keypoints'], values[:, :2], rtol=1e-6)
    np.testing.assert_array_equal(info['keypoints_visible'], values[:, 2])


def test_training_drops_the_unlabelled_and_testing_keeps_everyone(tmp_path):
    document = json.loads((DATA / 'coco_785.json').read_text())
    empty = {**document['annotations'][0], 'id': 2, 'keypoints': [0] * 51, 'num_keypoints': 0}
    crowd = {**document['annotations'][0], 'id': 3, 'iscrowd': 1}
    box_only = {k: v for k, v in document['annotations'][0].items() if k != 'keypoints'} | {'id': 4}
    document['annotations'] += [empty, crowd, box_only]
    (tmp_path / 'a.json').write_text(json.dumps(document))
    options = dict(ann_file=str(tmp_path / 'a.json'), keypoint_vocabulary='coco17')
    assert [coco(**options).get_data_info(i)['ann_id'] for i in range(len(coco(**options)))] == [442619]
    test = coco(**options, test_mode=True)
    assert [test.get_data_info(i)['ann_id'] for i in range(len(test))] == [442619, 2, 4]
    assert (test.get_data_info(2)['keypoints_visible'] == 0).all()


def test_detector_boxes(tmp_path):
    options = dict(bbox_file='coco_785_detections.json', test_mode=True)
    assert len(coco(**options)) == 22
    few = coco(**options, bbox_score_thr=0.25)
    assert len(few) == 2
    info = few.get_data_info(0)
    x, y, w, h = json.loads((DATA / 'coco_785_detections.json').read_text())[0]['bbox']
    np.testing.assert_allclose(info['bbox'], [x, y, x + w, y + h], rtol=1e-6)
    assert info['bbox_score'] > 0.99 and 'keypoints' not in info
    assert len(coco(bbox_file='coco_785_detections.json')) == 1, 'training uses the annotations'
    (tmp_path / 'd.json').write_text('[{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(UserError, match='result 0 belongs to image 1, which'):
        coco(bbox_file=str(tmp_path / 'd.json'), test_mode=True)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'a.json: no such annotation file'),
        ('{"images": [', 'a.json: not valid JSON'),
        ('[]', 'a.json: lacks annotations, images'),
        ('{"images": [], "annotations": [{"id": 7, "image_id": 3}]}', 'annotation 7 belongs to image 3, which is not'),
        ('{"images": [{"id": 3, "file_name": "x"}], "annotations": [{"id": 7, "image_id": 3, "bbox": [0, 0, 5, 5], '
         '"keypoints": [1, 2, 2]}]}', 'annotation 7 has 1 keypoints, the vocabulary has 133'),
        ('{"images": [{"id": 3, "file_name": "x"}], "annotations": [{"id": 7, "image_id": 3, "bbox": [0, 0], '
         '"keypoints": [' + '1, ' * 398 + '1]}]}', 'annotation 7 needs a "bbox" of four numbers'),
    ],
)  # fmt: skip
def test_malformed_annotations_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'a.json').write_text(text)
    with pytest.raises(UserError, match=message):
        coco(str(tmp_path / 'a.json'))


def test_metainfo_serves_metrics_of_the_toolkits():
    meta = coco().metainfo
    assert meta['num_keypoints'] == 133 and len(meta['sigmas']) == 133 and meta['flip_indices'][1] == 2
    assert meta['keypoint_vocabulary'] == 'wholebody133'


def write_manifest(folder, keypoints='keypoints308', persons=2):
    rng = np.random.default_rng(0)
    with ManifestWriter(folder, keypoints=keypoints, parts='parts28', image_extension='.png') as writer:
        for key in ('a', 'b'):
            scene = sphere()
            people = [
                {'bbox': [10, 20, 30, 40], 'keypoints': np.c_[rng.uniform(0, 90, (308, 2)), np.full(308, 2)]}
                for _ in range(persons)
            ]
            people.append({'bbox': [0, 0, 5, 5]})
            writer.write(key, image=scene['img'], parts=scene['part_map'], depth=scene['depth'],
                         normals=scene['normals'], persons=people, camera={'K': np.eye(3).tolist()})  # fmt: skip
    return folder


@pytest.mark.parametrize('packed', [False, True])
def test_manifest_per_image_and_per_person(tmp_path, packed):
    folder = write_manifest(tmp_path / 'plain')
    if packed:
        pack_shards(folder, tmp_path / 'packed')
        folder = tmp_path / 'packed'
    labels = [dict(type='LoadImage'), dict(type='LoadLabels')]
    data = HumanManifestDataset(str(folder), pipeline=labels)
    assert len(data) == 2 and data.metainfo['classes'][5] == 'Left_Hand'
    out = data[0]
    scene = sphere()
    assert (out['part_map'] == scene['part_map']).all() and (out['mask'] == scene['mask']).all()
    np.testing.assert_allclose(out['depth'], scene['depth'], atol=0.0006)
    assert out['camera'] == {'K': np.eye(3).tolist()} and out['part_vocabulary'] == 'parts28'
    people = HumanManifestDataset(str(folder), sample_per='person', pipeline=labels)
    assert len(people) == 4, 'the person without keypoints is left out'
    assert len(HumanManifestDataset(str(folder), sample_per='person', test_mode=True)) == 6
    info = people.get_data_info(3)
    assert info['bbox'].tolist() == [10, 20, 40, 60] and info['keypoints'].shape == (308, 2)
    converted = HumanManifestDataset(str(folder), sample_per='person', keypoint_vocabulary='coco17').get_data_info(3)
    points, visible = convert_keypoints(info['keypoints'], info['keypoints_visible'], 'keypoints308', 'coco17')
    np.testing.assert_allclose(converted['keypoints'], points, rtol=1e-6)
    assert (converted['keypoints_visible'] == visible).all() and converted['keypoint_vocabulary'] == 'coco17'


def test_manifest_mistakes_are_named(tmp_path):
    folder = write_manifest(tmp_path)
    with pytest.raises(UserError, match="its parts are 'parts28', not 'parts20'; give a label_map"):
        HumanManifestDataset(str(folder), part_vocabulary='parts20')
    assert len(HumanManifestDataset(str(folder), part_vocabulary='parts20', label_map={5: 13})) == 2
    with pytest.raises(UserError, match="'persons' is neither"):
        HumanManifestDataset(str(folder), sample_per='persons')
    with pytest.raises(UserError, match=r'nothing/manifest.json: no such file'):
        HumanManifestDataset(str(tmp_path / 'nothing'))


@pytest.mark.parametrize(
    ('kind', 'wrong', 'message'),
    [
        (ImageFolderDataset, dict(labels=3), 'ImageFolderDataset: labels is 3; give a word or a list of names'),
        (ImageFolderDataset, dict(labels=[1]), 'labels is .1.; give a word or a list of names'),
        (ImageFolderDataset, dict(data_root=3), 'data_root is 3; give a word'),
        (ImageFolderDataset, dict(ann_file=3), 'ann_file is 3; give a word'),
        (ImageFolderDataset, dict(data_prefix='images'), "data_prefix is 'images'; give a dict"),
        (ImageFolderDataset, dict(label_map=3), 'label_map is 3; give a dict of old ids to new ones, or a list'),
        (ImageFolderDataset, dict(label_map=[1.5]), 'label_map sends id 0 to 1.5'),
        (ImageFolderDataset, dict(label_map={0: float('inf')}), 'label_map sends id 0 to inf'),
        (ShardImageDataset, dict(chunk=0), 'ShardImageDataset.chunk is 0; give a whole number of at least 1'),
        (ShardImageDataset, dict(lanes=3), 'ShardImageDataset: lanes is 3; give two numbers'),
        (ShardImageDataset, dict(lanes=(1, 2, 3)), 'lanes is .*; give two numbers'),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(tmp_path, kind, wrong, message):
    with pytest.raises(UserError, match=message):
        kind(**{'data_root': str(tmp_path), **wrong})


def test_label_map_renames_ids(tmp_path):
    folder = write_manifest(tmp_path)
    pipeline = [dict(type='LoadImage'), dict(type='LoadLabels', kinds=('parts',))]
    data = HumanManifestDataset(str(folder), part_vocabulary='parts20', label_map={5: 14}, pipeline=pipeline)
    assert set(np.unique(data[0]['part_map'])) == {0, 14}
    assert lookup_table([0, 3, 2]).tolist()[:4] == [0, 3, 2, 3]
    with pytest.raises(UserError, match='300'):
        lookup_table({1: 300})
    with pytest.raises(UserError, match='label_map sends id skin to 2'):
        lookup_table({'skin': 2})
    with pytest.raises(UserError, match=f"{folder}: 'coco17' is a vocabulary of keypoints, not of parts"):
        HumanManifestDataset(str(folder), part_vocabulary='coco17', label_map={5: 14})


def test_image_folder_and_list(tmp_path):
    photos(tmp_path / 'x/deep', 2)
    photos(tmp_path / 'x', 1)
    (tmp_path / 'x/notes.txt').write_text('no image')
    (tmp_path / 'x/.hidden.png').write_bytes(b'')
    data = ImageFolderDataset(data_root=str(tmp_path / 'x'), pipeline=PIPELINE)
    assert [data.get_data_info(i)['img_id'] for i in range(3)] == ['000.png', 'deep/000.png', 'deep/001.png']
    assert data[1]['inputs'].shape == (3, 32, 24) and data[1]['inputs'].dtype == torch.uint8
    # A loop over it ends, and the last is also at -1.
    assert len([*zip(data, range(9), strict=False)]) == 3 and (data[-1]['inputs'] == data[2]['inputs']).all()
    (tmp_path / 'list.txt').write_text('# mine\ndeep/001.png\n\n000.png\n')
    listed = ImageFolderDataset(str(tmp_path / 'list.txt'), data_root=str(tmp_path / 'x'))
    assert [listed.get_data_info(i)['img_id'] for i in range(2)] == ['deep/001.png', '000.png']
    with pytest.raises(UserError, match='none: no such folder'):
        ImageFolderDataset(data_root=str(tmp_path / 'none'))
    with pytest.raises(UserError, match='none.txt: no such file list'):
        ImageFolderDataset('none.txt', data_root=str(tmp_path))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='empty: holds no image'):
        ImageFolderDataset(data_root=str(tmp_path / 'empty'))


def test_folders_of_images_and_labels(tmp_path):
    photos(tmp_path / 'images', 3)
    (tmp_path / 'labels').mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / f'labels/{i:03d}.png'), np.full((40, 30), 3 + i, np.uint8))
    options = dict(data_root=str(tmp_path), data_prefix=dict(img='images', parts='labels'), part_vocabulary='parts20')
    with pytest.raises(UserError, match="labels: holds no parts label for '002'"):
        ImageLabelFolderDataset(**options)
    for file, said in {
        '002.exr': 'but 002.exr, which is none of .png',
        '002_mask.png': ", only '002_mask'; labels have the folders and names of their images",
        'deep/002.png': ", only 'deep/002'",
    }.items():
        (tmp_path / 'labels' / file).parent.mkdir(exist_ok=True)
        (tmp_path / 'labels' / file).write_bytes(b'x')
        with pytest.raises(UserError, match=f"label for '002' ?{said}.*; add it, or list the labelled images"):
            ImageLabelFolderDataset(**options)
        (tmp_path / 'labels' / file).unlink()
    (tmp_path / 'train_id.txt').write_text('001\n000\n')
    pipeline = [dict(type='LoadImage'), dict(type='LoadLabels', kinds=('parts', 'mask'))]
    data = ImageLabelFolderDataset('train_id.txt', pipeline=pipeline, **options)
    assert [int(data[i]['part_map'][0, 0]) for i in range(2)] == [4, 3] and data[0]['mask'].all()
    one = [dict(type='LoadImage'), dict(type='LoadLabels', kinds='parts')]
    assert 'mask' not in ImageLabelFolderDataset('train_id.txt', pipeline=one, labels='parts', **options)[0]
    with pytest.raises(UserError, match="data_prefix has 'seg_map_path'; it takes img, parts, depth, normals, mask"):
        ImageLabelFolderDataset(data_root=str(tmp_path), data_prefix=dict(img='images', seg_map_path='labels'))
    with pytest.raises(UserError, match="unknown normal_axes 'left'; known are 'x-right"):
        ImageLabelFolderDataset('train_id.txt', normal_axes='left', **options)
    (tmp_path / 'train_id.txt').write_text('009\n')
    with pytest.raises(UserError, match="train_id.txt: names '009', which"):
        ImageLabelFolderDataset('train_id.txt', **options)


def test_shards_of_images(tmp_path):
    photos(tmp_path / 'p', 5)
    for shard, names in (('s-00.tar', '01'), ('s-01.tar', '234')):
        with tarfile.open(tmp_path / shard, 'w') as tar:
            for n in names:
                tar.add(tmp_path / f'p/00{n}.png', f'00{n}.png')
                tar.add(tmp_path / f'p/00{n}.png', f'00{n}.txt')
    data = ShardImageDataset(str(tmp_path), 's-{00..01}.tar', pipeline=PIPELINE)
    assert len(data) == 5
    assert [int(data[i]['inputs'][0, 0, 0]) for i in range(5)] == [0, 1, 2, 3, 4]
    assert 's-01.tar#' in data[4]['data_samples'].img_path
    assert len(pickle.loads(pickle.dumps(data))) == 5
    assert len(ShardImageDataset(str(tmp_path), indices=2)) == 2
    assert expand_shards(['a{8..10}.tar', 'b{0..1}{3..3}.tar'], 'x') == [
        'x/a8.tar', 'x/a9.tar', 'x/a10.tar', 'x/b03.tar', 'x/b13.tar']  # fmt: skip
    with pytest.raises(UserError, match='no shard matches'):
        ShardImageDataset(str(tmp_path), 'z*.tar')
    with pytest.raises(UserError, match='s-02.tar: no such shard'):
        ShardImageDataset(str(tmp_path), 's-{00..02}.tar')
    shutil.copy(tmp_path / 'p/000.png', tmp_path / 'bad.tar')
    with pytest.raises(UserError, match='bad.tar: not an uncompressed tar'):
        ShardImageDataset(str(tmp_path), 'bad.tar')


@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_samples_are_skipped_counted_and_listed(tmp_path, workers):
    photos(tmp_path, 40)
    (tmp_path / '007.png').write_bytes(b'')
    (tmp_path / '020.png').write_text('words')
    folder = dict(type='ImageFolderDataset', data_root=str(tmp_path), pipeline=PIPELINE)
    options = dict(batch_size=4, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=False))
    data = dict(type='sapiens.ConcatDataset', datasets=[folder])
    batches = list(build_train_dataloader(dict(dataset=data, **options), 0, infinite=False))
    seen = [sample.img_id for batch in batches for sample in batch['data_samples']]
    assert len(seen) == 40 and not {'007.png', '020.png'} & set(seen)
    # Each goes with the batch that it was meant for.
    assert [sorted(index for index, _ in batch.skipped) for batch in batches] == [
        [7] if i == 1 else [20] if i == 5 else [] for i in range(10)
    ]
    bad = dict(batches[1].skipped + batches[5].skipped)
    assert '007.png' in bad[7] and '0 bytes' in bad[7] and 'text file' in bad[20]


def test_epochs_without_a_batch_are_one_line(tmp_path):
    photos(tmp_path, 3)
    data = dict(type='ImageFolderDataset', data_root=str(tmp_path), pipeline=PIPELINE)
    cfg = dict(dataset=data, batch_size=4, drop_last=True)
    with pytest.raises(UserError, match='its 3 samples make no whole batch of 4'):
        build_train_dataloader(cfg, 0, infinite=False)
    assert len(next(iter(build_train_dataloader(cfg, 0, infinite=True)))['inputs']) == 4


def test_transforms_take_the_input_size_of_the_data_set(tmp_path):
    photos(tmp_path, 1)
    pipeline = [dict(type='LoadImage'), dict(type='Resize'), dict(type='PackHumanInputs')]
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=pipeline, input_size=(20, 10))
    assert data[0]['inputs'].shape == (3, 20, 10)
    pipeline[1]['input_size'] = (8, 8)
    assert (
        ImageFolderDataset(data_root=str(tmp_path), pipeline=pipeline, input_size=(20, 10))[0]['inputs'].shape[1] == 8
    )
    random = dict(type='RandomApply', transforms=[dict(type='sapiens.Resize')], prob=1.0)
    shared, places = Resize(), dict(background=str(tmp_path), labels=('depth',))
    for size in ((20, 10), (8, 6)):
        for step in (random, shared):
            data = ImageFolderDataset(data_root=str(tmp_path), pipeline=[PIPELINE[0], step], input_size=size, **places)
            sample = data[0]
            assert sample['img'].shape[:2] == size
            assert not {'input_size', 'background', 'labels'} & set(sample), 'a sample carries no configuration'
    with pytest.raises(UserError, match='Resize does not know the size of the input'):
        ImageFolderDataset(data_root=str(tmp_path), pipeline=[PIPELINE[0], dict(type='Resize')], test_mode=True)[0]


@pytest.mark.parametrize('test_mode', [False, True])
def test_a_data_set_itself_skips_nothing(tmp_path, test_mode):
    """A validation without ``test_mode`` must not score another image twice."""
    photos(tmp_path, 3)
    (tmp_path / '001.png').write_bytes(b'')
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=PIPELINE, test_mode=test_mode)
    with pytest.raises(UserError, match='001.png'):
        data[1]


def test_what_transforms_drop_is_replaced_in_training_alone(tmp_path):
    photos(tmp_path, 3)
    pipeline = [lambda sample: None if sample['img_id'] == '001.png' else sample]
    assert ImageFolderDataset(data_root=str(tmp_path), pipeline=pipeline)[1]['img_id'] == '002.png'
    with pytest.raises(UserError, match='001.png: the transforms of the pipeline drop this sample'):
        ImageFolderDataset(data_root=str(tmp_path), pipeline=pipeline, test_mode=True)[1]


class MyFormat(HumanDataset):
    """What docs/architecture.md says that a format is."""

    def load_data_list(self):
        rows = Path(self.ann_file).read_text().split()
        return [{'img_path': self._resolve('img', name), 'img_id': name,
                 'label_files': {'depth': self._resolve('', f'{name}.depth.png')}} for name in rows]  # fmt: skip


def test_a_format_of_ones_own_is_a_class_with_one_method(tmp_path):
    photos(tmp_path, 2)
    (tmp_path / 'index.txt').write_text('000.png 001.png')
    shape = cv2.imread(str(tmp_path / '000.png')).shape[:2]
    for i in range(2):
        cv2.imwrite(str(tmp_path / f'00{i}.png.depth.png'), np.full(shape, 2000 + i, np.uint16))
    pipeline = [PIPELINE[0], dict(type='LoadLabels'), *PIPELINE[1:]]
    data = MyFormat('index.txt', str(tmp_path), pipeline=pipeline, labels=('depth',))
    assert [float(data[i]['data_samples'].gt_depth.max()) for i in range(2)] == pytest.approx([2.0, 2.001])
    assert not [problem for found in check_dataset(data) for problem in found]
    (tmp_path / '001.png.depth.png').unlink()
    with pytest.raises(UserError, match='001.png.depth.png: no such file'):
        data[1]


def test_programming_errors_are_not_swallowed(tmp_path):
    photos(tmp_path, 3)
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=[lambda results: results['nothing']])
    with pytest.raises(KeyError):
        data[0]


def test_data_sets_are_lazy_serialised_and_built_by_name(tmp_path):
    photos(tmp_path, 3)
    config = dict(type='ImageFolderDataset', data_root=str(tmp_path), pipeline=PIPELINE, lazy_init=True)
    data = DATASETS.build(config)
    assert not data._fully_initialized
    assert len(pickle.loads(pickle.dumps(data))) == 3
    assert data[2]['data_samples'].img_id == '002.png'
    assert isinstance(data.data_bytes, np.ndarray), 'entries are serialised, so workers share their memory'
    config['pipeline'] = [dict(type='LoadImag')]
    with pytest.raises(UserError, match="did you mean 'LoadImage'"):
        DATASETS.build(config)


def folder_pairs(**prefix):
    data = ImageLabelFolderDataset(data_prefix=prefix, part_vocabulary='parts20')
    infos = [data.get_data_info(i) for i in range(len(data))]
    return [(Path(i['img_path']).name, *(Path(f).name for f in i['label_files'].values())) for i in infos]


def test_images_and_labels_in_one_folder_are_told_apart(tmp_path):
    one = tmp_path / 'one'
    photos(one, 2)
    for i in range(2):
        (one / f'00{i}.png').rename(one / f'00{i}.jpg')
        cv2.imwrite(str(one / f'00{i}.png'), np.ones((40, 30), np.uint8))
    one = str(one)
    assert folder_pairs(img=one, parts=one) == [('000.jpg', '000.png'), ('001.jpg', '001.png')]
    arrays = str(photos(tmp_path / 'arrays', 1))
    np.save(f'{arrays}/000.npy', np.ones((40, 30)))
    assert folder_pairs(img=arrays, depth=arrays) == [('000.png', '000.npy')]
    below = photos(tmp_path / 'below', 1)
    labels = str(photos(below / 'labels', 1))
    assert folder_pairs(img=str(below), parts=labels) == [('000.png', '000.png')]
    both = str(photos(tmp_path / 'both', 1))
    with pytest.raises(UserError, match="'000.png' may be either; put the labels into a folder of their own"):
        folder_pairs(img=both, parts=both)


def test_two_files_of_one_name_are_an_error(tmp_path):
    images, labels = photos(tmp_path / 'images', 2), photos(tmp_path / 'labels', 2)
    (images / '001.webp').write_bytes((images / '001.png').read_bytes())
    with pytest.raises(UserError, match=r"images: has two images of the name '001' \(001.png, 001.webp\)"):
        folder_pairs(img=str(images), parts=str(labels))
    (images / '001.webp').unlink()
    (labels / '000.tif').write_bytes(b'')
    with pytest.raises(UserError, match=r"labels: has two parts labels of the name '000'"):
        folder_pairs(img=str(images), parts=str(labels))


def test_names_in_any_spelling_find_their_files(tmp_path):
    (tmp_path / 'img/deep').mkdir(parents=True)
    names = ['gro\u0308\u00dfe.jpg', 'with space.jpg', 'deep/a.jpg']
    for name in names:
        shutil.copy(PHOTO, tmp_path / 'img' / name)
    spelt = ['gr\u00f6\u00dfe.jpg', 'with%20space.jpg', 'deep\\a.jpg', './deep/a.jpg', '/deep/a.jpg', 'deep/a.jpg ',
             f'file://{tmp_path}/img/deep/a.jpg', '/data/local-files/?d=deep%2Fa.jpg']  # fmt: skip
    (tmp_path / 'list.txt').write_text('\n'.join(spelt[:5]), encoding='utf-8-sig')
    data = ImageFolderDataset(str(tmp_path / 'list.txt'), data_prefix=dict(img=str(tmp_path / 'img')))
    assert all(Path(data.get_data_info(i)['img_path']).is_file() for i in range(5))
    document = json.loads((DATA / 'coco_785.json').read_text())
    for name in spelt:
        document['images'][0]['file_name'] = name
        (tmp_path / 'a.json').write_bytes(json.dumps(document).encode('utf-16'))
        data = CocoKeypointDataset(str(tmp_path / 'a.json'), data_prefix=dict(img=str(tmp_path / 'img')))
        assert Path(data.get_data_info(0)['img_path']).is_file()


def test_dropped_persons_are_counted_and_said(tmp_path, caplog):
    document = json.loads((DATA / 'coco_785.json').read_text())
    (person,) = document['annotations']
    bare = {k: v for k, v in person.items() if k != 'keypoints'}
    changes = [(bare, {}), (person, dict(iscrowd=1)), (person, dict(bbox=[0, 0, 0, 0])),
               (bare, dict(bbox=[0, 0, 0, 0])), (person, dict(area=0))]  # fmt: skip
    document['annotations'] += [{**base, **change, 'id': i} for i, (base, change) in enumerate(changes)]
    (tmp_path / 'a.json').write_text(json.dumps(document))
    options = dict(ann_file=str(tmp_path / 'a.json'), keypoint_vocabulary='coco17')
    train, test = coco(**options), coco(**options, test_mode=True)
    assert train.notes[0] == '3 of 6 persons used: 2 without labelled keypoints, 1 crowds'
    assert test.notes[0] == '4 of 6 persons used: 1 crowds, 1 with an empty box and without keypoints'
    assert 'persons with an empty box get the box around their keypoints: 1 (first: annotation 2)' in train.notes
    assert 'persons without an area, taken as 0.53 of the box: 1 (first: annotation 4)' in train.notes


@pytest.mark.parametrize(
    ('names', 'prob', 'told'),
    [
        (['nose', 'left_eye', 'right_eye'], 0.5, None),
        (['nose', 'left_eye', 'right_ear'], 0.5, 'left_eye, right_ear keep'),
        (['nose', 'left_eye', 'right_ear'], 0, None),
        (['nase', 'auge1', 'auge2', 'ohr1', 'ohr2'], 0.5, 'nase, auge1, auge2, ... keep'),
    ],
)
def test_sides_that_mirrored_images_would_mix_up_are_told(tmp_path, monkeypatch, names, prob, told):
    said: list[str] = []
    monkeypatch.setattr('sapiens.datasets.base.print_log', lambda text, **_: said.append(text))
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps({'keypoints': [{'name': n} for n in names]}))
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    pipeline = [dict(type='LoadImage'), dict(type='RandomFlip', prob=prob)]
    ImageFolderDataset(data_root=str(tmp_path), keypoint_vocabulary=str(path), pipeline=pipeline).full_init()
    assert len(said) == (told is not None)
    assert not told or told in said[0]
