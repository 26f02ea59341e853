# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Inferencer: sources, batches, persons, one encoder pass, results, features, refusals."""

import json
import os

import cv2
import numpy as np
import pytest
import torch
from made_photos import photo
from PIL import Image

from sapiens.apis import (
    DepthMap,
    Detections,
    Features,
    Frame,
    ImageResult,
    Inferencer,
    LoadedModel,
    NormalMap,
    PartMap,
    depth_to_normals,
)
from sapiens.errors import UserError

TWO = np.array([[5, 5, 60, 110], [30, 10, 88, 118]], np.float32)


@pytest.fixture
def pose(make_model):
    return Inferencer(*make_model('pose'), device='cpu')


@pytest.fixture
def every(make_model):
    return Inferencer(*make_model('pose', 'seg', 'depth', 'normal'), device='cpu')


# ---------------------------------------------------------------- the same result however it runs


def test_batches_over_images_and_persons_give_what_one_at_a_time_gives(make_model, photos):
    """Flip test, several persons, mixed sizes: within 1e-3 pixels of one image and one person at a time."""

    def detect(frame):
        height, width = frame.image.shape[:2]
        count = 1 + frame.index % 3
        boxes = [[i * width / 8, 2, width * (0.6 + i / 8) - 1, height - 3] for i in range(count)]
        return Detections(np.array(boxes, np.float32), np.ones(count, np.float32))

    together = Inferencer(*make_model('pose'), device='cpu', batch_size=4, flip_test=True, detector=detect)
    results = list(together(photos))
    assert [len(r.keypoints) for r in results] == [1, 2, 3, 1, 2]
    for result in results:
        for i, box in enumerate(result.boxes):
            alone = Inferencer(*make_model('pose'), device='cpu', batch_size=1, flip_test=True, detector=[box])
            (single,) = alone(result.image, color='rgb')
            assert np.abs(single.keypoints.xy[0] - result.keypoints.xy[i]).max() < 1e-3
            assert np.abs(single.keypoints.scores[0] - result.keypoints.scores[i]).max() < 1e-4


def test_several_tasks_share_one_pass_and_one_reading(make_model, photos, monkeypatch):
    import sapiens.apis.sources as sources

    reads, passes = [], []
    read = sources.read_file
    monkeypatch.setattr(sources, 'read_file', lambda path: reads.append(path) or read(path))
    model = Inferencer(*make_model('pose', 'seg', 'depth', 'normal'), device='cpu', flip_test=False, batch_size=5)
    model.predictors[0].model.backbone.register_forward_hook(lambda *_: passes.append(1))
    results = list(model(photos))
    assert len(reads) == 5 and len(passes) == 1 and len(results) == 5
    result = results[0]
    assert (
        result.parts.ids.shape == result.depth.data.shape == result.size == result.normals.data.shape[:2] == (120, 90)
    )
    alone = Inferencer(*make_model('pose', 'seg', 'depth', 'normal'), device='cpu', flip_test=False)
    (only,) = alone(photos / '0.png', tasks=['normal'])
    assert only.parts is None and only.keypoints is None
    both = result.normals.valid & only.normals.valid
    np.testing.assert_allclose(only.normals.data[both], result.normals.data[both], atol=1e-4)


def test_two_checkpoints_run_side_by_side(make_model, photos):
    (config_a, file_a), (config_b, file_b) = make_model('pose'), make_model('depth')
    model = Inferencer([config_a, config_b], [file_a, file_b], device='cpu')
    assert model.tasks == ('pose', 'depth')
    (result,) = model(photos / '1.png')
    assert len(result.keypoints) == 1 and result.depth.valid.all() and result.depth.mask_source == 'none'
    with pytest.raises(UserError, match="both do 'pose'"):
        Inferencer([config_a, config_a], [file_a, file_a], device='cpu')


# ---------------------------------------------------------------- sources


class _Heif(Image.Image):
    """As pillow-heif and others have: of PIL's kind, from a module of its own."""

    def __init__(self, image):
        super().__init__()
        self.im, self._size, self._mode = image.im, image.size, image.mode


def test_every_kind_of_source_gives_the_same_keypoints(pose, tmp_path):
    image = photo()
    cv2.imwrite(str(tmp_path / 'a.png'), image[..., ::-1])
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    sources = {
        'path': tmp_path / 'a.png',
        'text': str(tmp_path / 'a.png'),
        'folder': tmp_path,
        'glob': str(tmp_path / '*.png'),
        'list': [tmp_path / 'a.png'],
        'generator': (image[..., ::-1] for _ in range(1)),
        'array': image[..., ::-1],
        'batch': image[None, ..., ::-1],
        'PIL': Image.fromarray(image),
        'PIL file': Image.open(tmp_path / 'a.png'),
        'PIL image of a plugin': _Heif(Image.fromarray(image)),
        'bytes tensor': tensor,
        'float tensor': tensor[None] / 255,
        'tensor with alpha': torch.cat([tensor, tensor[:1]]),
        'PathLike': type('Found', (), {'__fspath__': lambda self: str(tmp_path / 'a.png')})(),
    }
    expected = None
    for kind, source in sources.items():
        color = 'bgr' if kind in ('array', 'batch', 'generator') else None
        (result,) = pose(source, color=color)
        expected = result.keypoints.xy if expected is None else expected
        np.testing.assert_array_equal(result.image, image, err_msg=kind)
        np.testing.assert_allclose(result.keypoints.xy, expected, atol=1e-4, err_msg=kind)


def test_sources_of_many_keep_order_and_have_own_names(pose, photos, tmp_path):
    other = tmp_path / 'more'
    other.mkdir()
    cv2.imwrite(str(other / '0.png'), photo()[..., ::-1])
    cv2.imwrite(str(other / '0_1.png'), photo()[..., ::-1])
    results = list(pose([photos, other, photo()], color='rgb'))
    assert [r.name for r in results] == ['0', '1', '2', '3', '4', '0_1', '0_1_1', 'image_000002']
    assert [r.index for r in results] == list(range(8))
    cv2.imwrite(str(photos / '9.png'), photo()[..., ::-1])
    assert len(list(pose(photos))) == 6, 'what was added since is seen'


@pytest.mark.parametrize(
    ('source', 'options', 'message'),
    [
        (np.zeros((9, 9, 3), np.uint8), {}, "color='rgb'.*or color='bgr'"),
        (np.zeros((9, 9, 3)), {'color': 'rgb'}, 'uint8, not float64'),
        (np.zeros((9, 9, 7), np.uint8), {'color': 'rgb'}, r'not \(9, 9, 7\)'),
        (torch.randn(3, 9, 9) * 5, {}, r'lies in \[0, 1\]'),
        (Image.new('LA', (9, 9)).convert('La'), {}, 'image: the image cannot be read'),
        ('nothing.jpg', {}, 'nothing.jpg: no such file'),
        ('*.nothing', {}, r'\*.nothing: no file matches'),
        (object(), {}, 'object is no source'),
        ('s3://bucket/a.jpg', {}, 's3://bucket/a.jpg: is a URL; download the file first'),
        (Image.fromarray(np.float32([[-1, 9]])), {}, 'image: its values are -1 to 9; convert it to 8 bits'),
        ([], {}, 'the source: gave no image'),
        (77, {}, 'camera 77: cannot be opened'),
    ],
)
def test_bad_sources_are_one_clear_line(pose, source, options, message):
    with pytest.raises(UserError, match=message) as caught:
        list(pose(source, **options))
    assert '\n' not in str(caught.value)


def test_grey_and_transparent_arrays(pose):
    image = photo()
    (grey,) = pose(image[..., 0])
    assert (grey.image == image[..., :1]).all()
    for top, kind in ((1, np.float32), (255, np.float32), (65535, np.float32), (65535, np.uint16), (65535, np.int32)):
        (scaled,) = pose(Image.fromarray((image[..., 0] / 255 * top).astype(kind)))
        assert np.abs(scaled.image.astype(int) - image[..., :1]).max() <= 1, (top, kind)
    (transparent,) = pose(np.dstack([image, image[..., 0]]), color='rgb')
    assert (transparent.image == image).all()


def test_bad_images_of_a_folder_are_listed_and_the_rest_is_done(pose, photos):
    (photos / '1b.jpg').write_text('I am no image')
    (photos / '2b.png').write_bytes(b'')
    whole = cv2.imencode('.jpg', photo(300, 300))[1].tobytes()
    (photos / '3b.jpg').write_bytes(whole[: len(whole) // 2])
    assert len(list(pose(photos))) == 5
    assert [f.message.partition(': ')[2][:20] for f in pose.failures] == [
        'is a text file; repl', 'the image file is em', 'the image is truncat',
    ]  # fmt: skip
    assert all(f.name in f.message for f in pose.failures)
    with pytest.raises(UserError, match='1b.jpg: is a text file'):
        list(pose(photos, skip_bad=False))


def test_memory_does_not_grow_with_the_source(pose):
    """At most a few frames are read ahead of the result that is handed out."""
    read = []

    def frames():
        for i in range(40):
            read.append(i)
            yield photo(seed=i)

    for result in pose(frames(), color='rgb'):
        assert len(read) - result.index <= 2 * pose.batch_size + 1


# ---------------------------------------------------------------- persons and maps


def test_persons_are_pasted_back_and_the_rest_is_invalid(make_model):
    image = photo(120, 200)
    boxes = [[10, 10, 60, 100], [120, 20, 180, 110]]
    model = Inferencer(*make_model('depth', 'normal'), device='cpu', per_person=True, detector=boxes)
    (result,) = model(image, color='rgb')
    inside = np.zeros((120, 200), bool)
    for x1, y1, x2, y2 in boxes:
        inside[y1 : y2 + 1, x1 : x2 + 1] = True
    assert (result.depth.valid == inside).all() and np.isnan(result.depth.data[~inside]).all()
    assert (result.normals.data[~inside] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(result.normals.data[result.normals.valid], axis=-1), 1, atol=1e-5)


def test_person_crop_equals_the_crop_alone(make_model):
    """What is pasted for a person is what the model says about that person's crop."""
    image = photo(120, 200)
    box = np.array([120, 20, 180, 110], np.float32)
    model = make_model('seg', 'normal')
    (both,) = Inferencer(*model, device='cpu', per_person=True, detector=[[0, 0, 40, 60], box])(image, color='rgb')
    (one,) = Inferencer(*model, device='cpu', per_person=True, detector=[box])(image, color='rgb')
    area = np.s_[30:100, 130:170]
    assert (both.parts.ids[area] == one.parts.ids[area]).mean() > 0.99
    valid = both.normals.valid[area] & one.normals.valid[area]
    np.testing.assert_allclose(both.normals.data[area][valid], one.normals.data[area][valid], atol=1e-4)


def test_depth_of_persons_is_brought_to_one_scale(make_model):
    """Each person's values are an increasing affine map of what is predicted for that person alone."""
    image, boxes = photo(120, 200), np.array([[10, 10, 60, 100], [120, 20, 180, 110]], np.float32)
    model = make_model('depth', 'normal')
    (both,) = Inferencer(*model, device='cpu', per_person=True, detector=boxes)(image, color='rgb')
    (whole,) = Inferencer(*model, device='cpu')(image, color='rgb')
    for box in boxes:
        (alone,) = Inferencer(*model, device='cpu', per_person=True, detector=[box])(image, color='rgb')
        x1, y1, x2, y2 = box.astype(int)
        mine = np.s_[y1 : y2 + 1, x1 : x2 + 1]
        slope, shift = np.polyfit(alone.depth.data[mine].ravel(), both.depth.data[mine].ravel(), 1)
        assert slope > 0
        np.testing.assert_allclose(alone.depth.data[mine] * slope + shift, both.depth.data[mine], atol=1e-4)
        assert both.depth.data[mine].mean() == pytest.approx(whole.depth.data[mine].mean(), abs=1e-4)


def test_a_call_takes_boxes_as_the_detector_does(pose, make_model):
    found = pose.predict(photo(), color='rgb', detect=TWO.tolist())
    same = Inferencer(*make_model('pose'), device='cpu', detector=TWO).predict(photo(), color='rgb')
    np.testing.assert_array_equal(found.keypoints.boxes, TWO)
    np.testing.assert_allclose(found.keypoints.xy, same.keypoints.xy, atol=1e-4)
    with pytest.raises(UserError, match='a box is x1,y1,x2,y2 with x2 > x1'):
        pose.predict(photo(), color='rgb', detect=[[5, 5, 5, 9]])


def test_nobody_found(every):
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    (result,) = every(photo(), color='rgb', detect=lambda frame: nobody)
    assert len(result.keypoints) == 0 and result.keypoints.xy.shape == (0, 133, 2)
    assert not result.parts.mask.any() and not result.depth.valid.any() and not result.normals.valid.any()
    assert result.draw().shape[0] == 120


@pytest.mark.parametrize('source', ['parts', 'array', 'function', 'folder', 'none'])
def test_masks_and_where_they_come_from(make_model, tmp_path, source):
    image, mask = photo(), np.zeros((120, 90), np.uint8)
    mask[30:80, 20:60] = 255
    cv2.imwrite(str(tmp_path / 'image.png'), mask)
    tasks = ('seg', 'depth', 'normal') if source == 'parts' else ('depth', 'normal')
    given = {'array': mask, 'function': lambda frame: mask > 0, 'folder': tmp_path}.get(source)
    (result,) = Inferencer(*make_model(*tasks), device='cpu')(image, color='rgb', masks=given)
    expected = result.parts.mask if source == 'parts' else np.ones_like(mask) if source == 'none' else mask
    assert (result.depth.valid == (expected > 0)).all() and np.isnan(result.depth.data[expected == 0]).all()
    assert not result.normals.data[expected == 0].any()
    assert result.depth.mask_source == result.normals.mask_source == ('given' if given is not None else source)


def test_masks_of_equal_names_in_two_folders_are_told_apart(make_model, tmp_path):
    """The mask of one a.png was taken for the other, too."""
    model = Inferencer(*make_model('depth'), device='cpu', flip_test=False)
    half = np.zeros((120, 90), np.uint8)
    half[:60] = 255
    for folder, mask in (('x', half), ('y', 255 - half)):
        for path, image in ((tmp_path / 'photos', photo()), (tmp_path / 'masks', mask)):
            (path / folder).mkdir(parents=True)
            cv2.imwrite(str(path / folder / 'a.png'), image)
    results = list(model(tmp_path / 'photos', masks=tmp_path / 'masks'))
    assert [list(result.depth.valid[[0, -1], 0]) for result in results] == [[True, False], [False, True]]
    cv2.imwrite(str(tmp_path / 'masks/a.png'), half)
    for folder in 'xy':
        (tmp_path / 'masks' / folder / 'a.png').unlink()
    assert model.predict(tmp_path / 'photos/y/a.png', masks=str(tmp_path / 'masks')).depth.valid[0, 0]
    with pytest.raises(UserError, match=r"masks/a.png: may be the mask of '.*x/a.png' or '.*y/a.png'; put masks into"):
        list(model(tmp_path / 'photos', masks=tmp_path / 'masks'))


@pytest.mark.parametrize('own', [True, False])
def test_frames_of_a_video_have_masks_by_their_names(make_model, tmp_path, own):
    model = Inferencer(*make_model('depth'), device='cpu', flip_test=False)
    frames = [Frame(photo(), f'clip_{i:06d}', tmp_path / 'clip.mp4', i, i / 10) for i in range(2)]
    for i in range(2):
        mask = np.full((120, 90), 255 * (not own or i), np.uint8)
        cv2.imwrite(str(tmp_path / (f'clip_{i:06d}.png' if own else 'clip.png')), mask)
    assert [bool(result.depth.valid.any()) for result in model(frames, masks=tmp_path)] == [not own, True]


def test_mask_of_another_size(make_model):
    model = Inferencer(*make_model('depth', 'normal'), device='cpu')
    with pytest.raises(UserError, match=r'the mask: has the size \(9, 9\), the image image \(120, 90\)'):
        list(model(photo(), color='rgb', masks=np.ones((9, 9))))


# ---------------------------------------------------------------- results


def test_keypoints_by_name_and_in_other_vocabularies(pose):
    (result,) = pose(photo(), color='rgb', detect=lambda f: Detections(TWO, np.array([0.9, 0.5], np.float32)))
    person = result.keypoints[1]
    assert person['nose'] == person.as_dict()['nose'] == (*person.xy[0].tolist(), person.scores[0].item())
    assert person.box_score == 0.5 and person.instance_id == 1 and (person.box == TWO[1]).all()
    body = result.keypoints.to('coco17')
    assert body.vocabulary.name == 'coco17' and (body.xy == result.keypoints.xy[:, :17]).all()
    openpose = result.keypoints.to('openpose25')
    neck = openpose.vocabulary.names.index('Neck') if 'Neck' in openpose.vocabulary.names else 1
    shoulders = (np.array(person['left_shoulder']) + person['right_shoulder']) / 2
    np.testing.assert_allclose(openpose.xy[1, neck], shoulders[:2], atol=1e-3)
    with pytest.raises(KeyError, match='tail'):
        person['tail']


def test_normals_in_other_axes(make_model):
    (result,) = Inferencer(*make_model('depth', 'normal'), device='cpu')(photo(), color='rgb')
    ours, opencv = result.normals.data, result.normals(to='opencv')
    assert (opencv == ours * [1, -1, -1]).all()
    assert (result.normals.to('opencv').to('x-right y-up z-viewer').data == ours).all()
    with pytest.raises(UserError, match="unknown axes 'blender'"):
        result.normals.to('blender')


def test_normals_of_depth_are_those_of_a_ball():
    y, x = np.mgrid[-60:61, -60:61].astype(float)
    inside = x**2 + y**2 < 50**2
    height = np.sqrt(np.where(inside, 60**2 - x**2 - y**2, 0))
    depth = np.where(inside, 7 - 0.01 * height, np.nan)
    found = depth_to_normals(depth, inside, relief=np.ptp(height[inside]))
    truth = np.stack([x, -y, height], -1)[found.valid] / 60
    assert found.valid.sum() > 0.9 * inside.sum()
    angle = np.degrees(np.arccos(np.clip((found.data[found.valid] * truth).sum(-1), -1, 1)))
    assert angle.mean() < 0.5 and angle.max() < 5
    assert not found.data[~found.valid].any()


def test_saved_files_hold_the_results(every, tmp_path):
    (result,) = every(photo(), color='rgb', detect=lambda f: Detections(TWO, np.array([0.9, 0.5], np.float32)))
    files = {path.name for path in result.save(tmp_path / 'out', arrays=True)}
    assert files == {path.name for path in (tmp_path / 'out').iterdir()}
    assert {f'image_{t}.jpg' for t in ('pose', 'seg', 'depth', 'normal')} < files
    document = json.loads((tmp_path / 'out/image.json').read_text())
    assert document['persons'][1]['keypoints']['nose'] == pytest.approx(result.keypoints[1]['nose'], abs=2e-3)
    assert document['depth']['mask'] == 'parts' and document['normals']['axes'] == 'x-right y-up z-viewer'
    coco = json.loads((tmp_path / 'out/image_coco.json').read_text())
    assert len(coco) == 2 and len(coco[0]['keypoints']) == 133 * 3 and coco[0]['bbox'] == [5, 5, 55, 105]
    with np.load(tmp_path / 'out/image.npz', allow_pickle=False) as arrays:
        assert (arrays['part_ids'] == result.parts.ids).all()
        np.testing.assert_array_equal(arrays['depth'], result.depth.data)
        np.testing.assert_array_equal(arrays['normals'], result.normals.data)
    level = cv2.imread(str(tmp_path / 'out/image_depth.png'), cv2.IMREAD_UNCHANGED)
    assert level.dtype == np.uint16 and ((level > 0) == result.depth.valid).all() and level.max() == 65535
    coded = cv2.imread(str(tmp_path / 'out/image_normal.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
    decoded = coded[result.normals.valid].astype(np.float64) / 65535 * 2 - 1
    np.testing.assert_allclose(decoded, result.normals.data[result.normals.valid], atol=2e-5)


def test_pictures(every):
    (result,) = every(photo(), color='rgb')
    for task in ('pose', 'seg', 'depth', 'normal'):
        picture = result.draw(task)
        assert picture.shape == (120, 90, 3) and picture.dtype == np.uint8 and (picture != result.image).any()
    assert result.draw().shape[1] > 5 * 90
    (only,) = every(photo(), color='rgb', tasks=['seg'])
    with pytest.raises(UserError, match="image: has no result of task 'pose', but of seg"):
        only.draw('pose')


def test_part_scores_on_demand(make_model):
    (plain,) = Inferencer(*make_model('seg'), device='cpu')(photo(), color='rgb')
    (scored,) = Inferencer(*make_model('seg'), device='cpu', part_scores=True)(photo(), color='rgb')
    assert plain.parts.scores is None and (plain.parts.ids == scored.parts.ids).all()
    assert scored.parts.scores.min() > 1 / 28 and scored.parts.scores.max() <= 1
    assert (plain.parts.of('Hair') == (plain.parts.ids == plain.parts.vocabulary.names.index('Hair'))).all()


# ---------------------------------------------------------------- features


def test_features_of_chosen_layers(make_model, photos):
    model = Inferencer(*make_model('pose'), device='cpu', batch_size=2)
    features = list(model.extract(photos, layers=[0, -1]))
    assert [f.name for f in features] == ['0', '1', '2', '3', '4']
    assert {k: v.shape for k, v in features[0].layers.items()} == {0: (32, 4, 3), -1: (32, 4, 3)}
    (pooled,) = model.extract(photos / '3.png', pooled=True)
    np.testing.assert_allclose(pooled.layers[-1], features[3].layers[-1].mean((1, 2)), atol=1e-5)
    predictor = model.predictors[0]
    crop = predictor.prepare(Frame(np.ascontiguousarray(cv2.imread(str(photos / '0.png'))[..., ::-1]), '0'))
    expected = predictor.model.extract_feat(predictor.inputs_of([crop.inputs]))[-1][0]
    np.testing.assert_allclose(features[0].layers[-1], expected.numpy(), atol=1e-5)
    with pytest.raises(UserError, match='layer 2 does not exist: the encoder has layers 0 to 1'):
        list(model.extract(photos, layers=[2]))
    with pytest.raises(UserError, match='no cls token'):
        list(model.extract(photos, cls=True))


def test_features_of_a_published_encoder_file(tmp_path):
    """Prefix stripped, cls row, no decoder: an encoder, whose cls token can be had, and which predicts nothing."""
    from sapiens.engine.config import load_config
    from sapiens.registry import MODELS

    backbone = load_config('configs/pretrain/sapiens_tiny_mae.py').model.backbone
    encoder = MODELS.build({**backbone, 'type': 'sapiens.SapiensViT', 'with_cls_token': True})
    torch.save(encoder.state_dict(), tmp_path / 'sapiens_tiny.pth')
    model = Inferencer(weights=tmp_path / 'sapiens_tiny.pth', device='cpu')
    (features,) = model.extract(photo(), cls=True, pooled=True, color='rgb')
    assert features.cls.shape == features.layers[-1].shape == (192,)
    with pytest.raises(UserError, match='is an encoder without heads; use extract'):
        model(photo(), color='rgb')


# ---------------------------------------------------------------- models


def test_names_weights_and_devices_that_do_not_exist(make_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, file = make_model('pose')
    with pytest.raises(UserError, match="model 'pose_308': there is no.*give weights="):
        Inferencer('pose_308')
    with pytest.raises(UserError, match="unknown model 'pose_309': did you mean 'pose_308'"):
        Inferencer('pose_309', file)
    with pytest.raises(UserError, match='widths of no shipped config'):
        Inferencer('pose_133', file)
    with pytest.raises(UserError, match='say which model'):
        Inferencer()
    with pytest.raises(UserError, match='2 models and 1 weights'):
        Inferencer([config, config], [file])
    for device in ('tpu', None):
        with pytest.raises(UserError, match=f"device '{device}' is none of 'auto'"):
            Inferencer(config, file, device=device)
    for size in (0, '4', 2.5):
        with pytest.raises(UserError, match=f'batch_size is {size!r}; give a whole number of at least 1'):
            Inferencer(config, file, batch_size=size)
    with pytest.raises(UserError, match="no model here does the task 'seg'; these do pose"):
        Inferencer(config, file, device='cpu')(photo(), color='rgb', tasks=['seg'])
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device 'cuda': PyTorch sees none here"):
            Inferencer(config, file, device='cuda')


def test_weights_by_name_alone(tmp_path, monkeypatch):
    """A checkpoint in the folder of weights is found by the model's name, and the name by a checkpoint's layout."""
    from sapiens.engine.config import load_config
    from sapiens.registry import MODELS

    for name in ('sapiens_tiny_depth', 'sapiens_tiny_own_depth'):
        model = load_config(f'configs/depth/{name}.py').model.to_dict()
        network = MODELS.build({**model, 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
        torch.save(network.state_dict(), tmp_path / f'{name}.pth')
    monkeypatch.setenv('SAPIENS_WEIGHTS', str(tmp_path))
    file = tmp_path / 'sapiens_tiny_depth.pth'
    for spec in (('depth_tiny',), ('depth',), (None, file), (file,)):
        assert Inferencer(*spec, device='cpu').tasks == ('depth',)
    with pytest.raises(UserError, match=r'does not fit.*; it is no sapiens_tiny_depth, which it looks like: give its'):
        Inferencer(weights=tmp_path / 'sapiens_tiny_own_depth.pth', device='cpu')


def test_seg_checkpoint_given_to_pose(make_model):
    with pytest.raises(UserError, match=r'seg.pth: .* parameters of heads.pose are missing'):
        Inferencer(make_model('pose')[0], make_model('seg')[1], device='cpu')


def test_text_file_and_truncated_safetensors(make_model, tmp_path):
    from safetensors.torch import save_file

    config, file = make_model('pose')
    (tmp_path / 'text.pth').write_text('<html>not found</html>')
    with pytest.raises(UserError, match='text.pth: a web page, not the weights'):
        Inferencer(config, tmp_path / 'text.pth', device='cpu')
    save_file(torch.load(file, weights_only=True)['state_dict'], str(tmp_path / 'whole.safetensors'))
    assert Inferencer(config, tmp_path / 'whole.safetensors', device='cpu').tasks == ('pose',)
    data = (tmp_path / 'whole.safetensors').read_bytes()
    (tmp_path / 'half.safetensors').write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match='half.safetensors: damaged or truncated'):
        Inferencer(config, tmp_path / 'half.safetensors', device='cpu')


def test_malicious_pickle_runs_nothing(make_model, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'trace'),)

    state = torch.load(make_model('pose')[1], weights_only=True)
    torch.save({**state, 'extra': Evil()}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='evil.pth: refused'):
        Inferencer(make_model('pose')[0], tmp_path / 'evil.pth', device='cpu')
    assert not (tmp_path / 'trace').exists()


def test_partial_checkpoint_leaves_the_missing_head_out(make_model):
    config, file = make_model('pose', 'seg')[0], make_model('pose')[1]
    with pytest.raises(UserError, match='heads.seg are missing'):
        Inferencer(config, file, device='cpu')
    assert Inferencer(config, file, device='cpu', allow_partial=True).tasks == ('pose',)


def test_half_precision_stays_close(make_model):
    image = photo()
    (full,) = Inferencer(*make_model('seg', 'depth', 'normal'), device='cpu')(image, color='rgb')
    (half,) = Inferencer(*make_model('seg', 'depth', 'normal'), device='cpu', dtype='bfloat16')(image, color='rgb')
    valid = full.normals.valid & half.normals.valid
    assert (full.parts.ids == half.parts.ids).mean() > 0.9
    assert (full.normals.data[valid] * half.normals.data[valid]).sum(-1).mean() > 0.98


def test_frames_can_be_given_ready_made(pose):
    (result,) = pose(Frame(photo(), 'mine', time=1.5))
    assert result.name == 'mine' and result.time == 1.5


def test_results_can_be_looked_for_in_lists_and_put_into_sets(pose, photos):
    (first, *_), others = list(pose(photos)), list(pose(photos))
    assert first != others[0] and first not in others and first in [*others, first]
    for one, other in ((first, others[0]), (first.keypoints, others[0].keypoints), (first.keypoints[0], others[0])):
        assert one == one and one != other and len({one, other}) == 2


@pytest.mark.parametrize('kind', [ImageResult, Detections, Frame, Features, PartMap, DepthMap, NormalMap, LoadedModel])
def test_what_holds_arrays_equals_itself_alone(kind):
    assert kind.__eq__ is object.__eq__ and kind.__hash__ is object.__hash__
