"""Each filter finds what it is for, in made images with known answers, and keeps what it is not for."""

import importlib.util

import cv2
import numpy as np
import pytest

from sapiens.apis.detectors import make_detections
from sapiens.curation.curate import curate
from sapiens.curation.labels import PixelStatistics, Probe, fit_probe
from sapiens.curation.persons import fit_calibration
from sapiens.curation.scoring import CrashNotes
from sapiens.curation.stage import build_stages, open_item
from sapiens.errors import UserError

needs_hash = pytest.mark.skipif(not importlib.util.find_spec('imagehash'), reason='needs the extra [curation]')


def photo(seed=0, size=(480, 640)):
    """Something with the soft edges and the grain of a photo."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (7, 9, 3)).astype(np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(float) + rng.normal(0, 6, (*size, 3))
    return image.clip(0, 255).astype(np.uint8)


def drawing(seed=0, size=(480, 640)):
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 255, np.uint8)
    for _ in range(30):
        corners = rng.integers(0, size[1], (4, 2)).astype(np.int32)
        cv2.fillPoly(image, [corners], rng.integers(0, 255, 3).tolist())
    return image


def item(image, suffix='.png', view=1280):
    return open_item('x', cv2.imencode(suffix, image[..., ::-1])[1].tobytes(), view, 1e8)


def stage(**config):
    built = build_stages({'stages': {'it': config}})[0]
    built.load()
    return built


def reason(built, image):
    (row,) = built.score([item(image)])
    return built.reason(row, **built.thresholds)


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        (photo(), None),
        (photo(size=(199, 640)), 'too small'),
        (photo(size=(210, 640)), 'too long and narrow'),
        (photo(size=(640, 210)), 'too long and narrow'),
    ],
)
def test_size(image, expected):
    assert reason(stage(type='ImageSize', reject=dict(min_side=200, max_aspect=3)), image) == expected


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        (photo(), None),
        (cv2.GaussianBlur(photo(), (0, 0), 5), 'blurred'),
        (np.full((480, 640, 3), 90, np.uint8), 'no contrast'),
        ((photo().mean(2, keepdims=True) > 128).repeat(3, 2) * np.uint8(255), 'badly exposed'),
    ],
)
def test_quality(image, expected):
    built = stage(type='Quality', reject=dict(min_sharpness=3, min_contrast=8, max_clipped=0.6))
    assert reason(built, image) == expected


def test_boxes_are_in_pixels_of_the_whole_image_also_where_it_is_decoded_at_a_fraction():
    class Half:
        def __call__(self, frame):
            h, w = frame.image.shape[:2]
            return make_detections([[0, 0, w / 2, h / 2]], [0.4])

    big = item(photo(size=(1000, 1600)), '.jpg', view=400)
    assert big.image.shape == (250, 400, 3) and big.size == (1000, 1600)
    built = stage(type='Persons', detector=Half(), calibration=[[0, 0], [0.5, 1]])
    (row,) = built.score([big])
    np.testing.assert_allclose(row['persons'], [0, 0, 800, 500, 0.8], rtol=1e-5)


@pytest.mark.parametrize(
    ('boxes', 'thresholds', 'expected'),
    [
        ([[0, 0, 200, 400, 0.95]], {}, None),
        ([[0, 0, 200, 400, 0.9]], {}, 'no person'),
        ([], {}, 'no person'),
        ([[0, 0, 300, 300, 0.95]], {}, 'person too small'),
        ([[0, 0, 200, 400, 0.95]], dict(side='short'), 'person too small'),
        ([[0, 0, 200, 400, 0.95]] * 2, dict(max_count=1), 'too many persons'),
        ([[0, 0, 200, 400, 0.95]], dict(min_count=2), 'no person'),
    ],
)
def test_persons(boxes, thresholds, expected):
    built = build_stages({'stages': {'it': dict(type='Persons', detector='whole', reject=thresholds)}})[0]
    assert built.reason({'persons': np.ravel(boxes)}, **built.thresholds) == expected


def test_calibration_is_the_share_of_right_boxes_and_never_falls():
    scores = np.random.default_rng(0).random(20000)
    correct = np.random.default_rng(1).random(20000) < scores**2
    raw, true = np.array(fit_calibration(scores, correct)).T
    assert (np.diff(true) >= 0).all() and (np.diff(raw) >= 0).all()
    at = np.linspace(0.02, 0.98, 200)
    assert abs(np.interp(at, raw, true) - at**2).mean() < 0.02


def test_text_counts_what_is_surely_read():
    def engine(image):
        square = np.array([[0, 0], [32, 0], [32, 32], [0, 32]])
        return [square, square], [0.9, 0.3], ['hello world!!', 'noise noise noise']

    built = stage(type='Text', engine=engine)
    (row,) = built.score([item(photo(size=(320, 320)))])
    assert row['text'] == 'hello world!! noise noise noise'
    np.testing.assert_allclose(row['text_boxes'], [0.01, 0.9, 13, 0.01, 0.3, 17], rtol=1e-6)
    assert built.reason(row) == 'text' and built.reason(row, max_share=0.011, max_letters=13) is None
    assert built.reason(row, min_score=0.95) is None and built.reason({'text_boxes': []}) is None


def test_labels_are_the_reasons():
    class Model:
        labels = ('photo', 'art', 'nsfw')

        def __call__(self, images):
            return np.array([[0.1, 0.8, 0.1]] * len(images))

    built = stage(type='Labels', labels=['nsfw', 'art'], model=Model(), reject=dict(nsfw=0.5, art=0.7))
    assert reason(built, photo()) == 'art'
    with pytest.raises(UserError, match="no label 'cat'; it has photo, art, nsfw"):
        stage(type='Labels', labels=['cat'], model=Model())
    with pytest.raises(UserError, match="stage 'it' .*no label 'photo'"):
        stage(type='Labels', labels=['art'], model=Model(), reject=dict(photo=0.5))


def test_a_probe_fitted_to_examples_tells_drawings_from_photos(tmp_path):
    features = PixelStatistics()
    train = [photo(i) for i in range(8)] + [drawing(i) for i in range(8)]
    fit_probe(tmp_path / 'art.npz', 'art', {'type': 'PixelStatistics'}, features(train), [0] * 8 + [1] * 8)
    built = stage(type='Labels', labels=['art'], model=Probe(str(tmp_path / 'art.npz')), reject=dict(art=0.5))
    assert [reason(built, photo(i)) for i in range(50, 53)] == [None] * 3
    assert [reason(built, drawing(i)) for i in range(50, 53)] == ['art'] * 3
    (tmp_path / 'broken.npz').write_bytes(b'PK')
    for name, words in (('broken.npz', 'not a probe'), ('none.npz', 'no such probe')):
        with pytest.raises(UserError, match=f'{name}: {words}'):
            Probe(str(tmp_path / name))


@needs_hash
def test_hashes_of_copies_are_near_and_those_of_mirrors_and_others_far():
    built = stage(type='PerceptualHash')

    def bits(a, b):
        return bin((a ^ b) & (2**64 - 1)).count('1')

    image = photo(3)
    jpeg = cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)
    views = [image, jpeg, image[::2, ::2], image[:, ::-1], photo(4)]
    rows = built.score([item(np.ascontiguousarray(v)) for v in views])
    first = rows[0]['phash']
    assert max(bits(first, r['phash']) for r in rows[1:3]) <= 4
    assert bits(rows[0]['phash_mirror'], rows[3]['phash']) <= 4
    assert min(bits(first, r['phash']) for r in rows[3:]) > 16


@pytest.mark.parametrize(
    ('stages', 'words'),
    [
        (dict(a=dict(reject={})), "stage 'a' needs a type"),
        (dict(a=dict(type='ImageSiz')), "did you mean 'ImageSize'"),
        (dict(a=dict(type='ImageSize', reject=dict(min_sid=3))), "stage 'a' .ImageSize.*min_sid"),
        (dict(a=dict(type='Quality', gate=dict(min_side=3))), "stage 'a' .Quality.*min_side"),
        (
            dict(a=dict(type='ImageSize', reject=dict(min_side='abc'))),
            "stage 'a' .ImageSize.: min_side is 'abc', not a n",
        ),
        (dict(a=dict(type='ImageSize', gate=dict(max_aspect=None))), 'max_aspect is None, not a number'),
        (dict(a=dict(type='Persons', detector='whole', reject=dict(max_count='2'))), "max_count is '2', not a number"),
        (dict(a=dict(type='Labels', labels=['art'], model=print, reject=dict(art=[1]))), r'art is \[1\], not a number'),
        (dict(a=dict(type='ImageSize', resources=dict(num_cpus='x'))), "resources are numbers, .*, not num_cpus = 'x'"),
        (dict(a=dict(type='ImageSize', resources=dict(cpus=1))), 'resources are numbers, .*, not cpus = 1'),
        (
            dict(a=dict(type='ImageSize', resources=dict(workers=(1, None)))),
            'a range of workers., not workers = .1, None',
        ),
        (dict(a=dict(type='ImageSize'), b=dict(type='ImageSize')), "'a' and 'b' both write the column 'height'"),
    ],
)
def test_a_wrong_config_is_one_line(stages, words):
    with pytest.raises(UserError, match=words):
        build_stages({'stages': stages})


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(duplicates=dict(min_cosine='abc')), "config: min_cosine in duplicates is 'abc', not a number"),
        (dict(duplicates=dict(max_bits=True)), 'config: max_bits in duplicates is True, not a whole number'),
        (dict(duplicates=None), 'config: duplicates is None; it takes search_bits, '),
        (dict(pack=dict(sample=10)), "config: pack is {'sample': 10}; it takes samples, "),
        (dict(pack=dict(samples=0)), 'config: samples in pack is 0, and must be at least 1'),
        (dict(part_size=1e6), 'config: part_size in config is 1000000.0, not a whole number'),
    ],
)
def test_settings_are_checked_before_anything_is_done(settings, words, tmp_path):
    with pytest.raises(UserError, match=words):
        curate({'stages': {'a': dict(type='ImageSize')}, **settings}, str(tmp_path), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('size', [(1, 1), (1, 700), (5000, 2), (7, 9)])
def test_lines_of_pixels_are_images_too(size):
    data = cv2.imencode('.png', np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8))[1].tobytes()
    one = open_item('line.png', data, 1280, 1e8)
    for stage in build_stages({'stages': dict(a=dict(type='ImageSize'), b=dict(type='Quality'))}):
        assert np.isfinite([*stage.score([one])[0].values()]).all()
    features = PixelStatistics()([one.image])
    assert features.shape == (1, 104) and np.isfinite(features).all()


def test_images_that_claim_too_many_pixels_are_not_decoded():
    data = cv2.imencode('.png', np.zeros((300, 400, 3), np.uint8))[1].tobytes()
    with pytest.raises(UserError, match='x: 400x300 pixels are more than 1000'):
        open_item('x', data, 1280, 1000)


def test_the_image_that_kills_its_process_is_found(tmp_path):
    """A batch that died is done one by one; who is alone at the next death is left out."""

    def life(killer):
        notes = CrashNotes(tmp_path, 'persons')
        killers = notes.begin([1, 2, 3])
        for part in [[1, 2, 3]] if killers is None else [[1], [2], [3]]:
            notes.at(part)
            if killer in part and killer not in (killers or ()):
                return None
        notes.end()
        return killers

    assert life(3) is None and life(3) is None
    assert life(3) == {3}
    assert life(7) is None and not list(tmp_path.iterdir())  # the next time nobody is accused
