"""The one reader of COCO-style files: obvious meanings are taken and counted, the rest is one line."""

import gzip
import json

import numpy as np
import pytest
from mutations import mutate

from sapiens.errors import UserError
from sapiens.structures import read_coco, read_coco_boxes, read_coco_results
from sapiens.vocabularies import load_vocabulary

NAMES = list(load_vocabulary('coco17').names)
POINTS = np.array([[i * 5 + 20, 300 - i * 10, 2] for i in range(17)], float)


def person(number=1, **fields):
    entry = {'id': number, 'image_id': 1, 'category_id': 1, 'bbox': [10, 100, 120, 220], 'area': 9000, 'iscrowd': 0,
             'keypoints': POINTS.ravel().tolist()}  # fmt: skip
    return {**entry, **fields}


@pytest.fixture
def write(tmp_path):
    def make(*persons, images=None, categories='default', encoding='utf-8'):
        if images is None:
            images = [{'id': 1, 'file_name': 'a.jpg', 'width': 640, 'height': 480}]
        if categories == 'default':
            categories = [{'id': 1, 'name': 'person', 'keypoints': NAMES}]
        document = {'images': images, 'annotations': list(persons or [person()]), 'categories': categories}
        path = tmp_path / 'labels.json'
        path.write_bytes(json.dumps(document).encode(encoding))
        return path

    return make


STYLES = [
    lambda n: n,
    lambda n: n.replace('left', 'L').replace('right', 'R'),
    lambda n: n.title().replace('_', ' '),
    lambda n: ''.join(w if i == 0 else w.title() for i, w in enumerate(n.split('_'))),
    lambda n: '-'.join(n.split('_')[::-1]),
    lambda n: n.replace('left_', 'l').replace('right_', 'r'),
    lambda n: n.replace('left_', 'L').replace('right_', 'R').title().replace('Ls', 'LS').replace('Rs', 'RS'),
    lambda n: n.replace('_', ''),
]


@pytest.mark.parametrize('order', [sorted(NAMES), NAMES[::-1], [*sorted(NAMES), 'neck', 'pelvis']])
@pytest.mark.parametrize('style', range(len(STYLES)))
def test_points_are_reordered_by_name_whatever_its_style(write, order, style):
    where = {**dict(zip(NAMES, POINTS, strict=True)), 'neck': [1, 1, 2], 'pelvis': [2, 2, 2]}
    keypoints = np.array([where[name] for name in order]).ravel().tolist()
    categories = [{'id': 1, 'name': 'x', 'keypoints': [STYLES[style](name) for name in order]}]
    file = read_coco(write(person(keypoints=keypoints), categories=categories), 'coco17')
    np.testing.assert_allclose(file.persons[0].keypoints, POINTS)
    assert 'by name' in ' '.join(file.notes)


def test_names_of_other_points_stop_with_both_orders(write):
    names = ['l_eye', 'r_eye', 'snout', *[f'leg{c}' for c in 'abcdefghijklmn']]
    with pytest.raises(UserError, match=r"category 'dog' lacks nose.*l_eye, r_eye, snout.*'coco17' are nose, left_eye"):
        read_coco(write(categories=[{'id': 1, 'name': 'dog', 'keypoints': names}]), 'coco17')


def test_numbered_points_keep_their_order(write):
    for names in ([str(i) for i in range(1, 18)], [f'kp_{i}' for i in range(17)]):
        file = read_coco(write(categories=[{'id': 1, 'name': 'person', 'keypoints': names}]), 'coco17')
        np.testing.assert_allclose(file.persons[0].keypoints, POINTS)


def test_wholebody_names_its_body_only_and_flags_count(write):
    body = NAMES[::-1]
    split = {f'{k}_kpts': [1.0, 2.0, 1.0] * n for k, n in dict(foot=6, face=68, lefthand=21, righthand=21).items()}
    entry = person(keypoints=POINTS[::-1].ravel().tolist(), **split, face_valid=0, lefthand_valid='false', foot_valid=1)
    file = read_coco(write(entry, categories=[{'id': 1, 'name': 'person', 'keypoints': body}]), 'wholebody133')
    points = file.persons[0].keypoints
    np.testing.assert_allclose(points[:17], POINTS)
    assert points[17:23, 2].all() and not points[23:112, 2].any() and points[112:, 2].all()
    assert file.persons[0].valid == {'face': False, 'lefthand': False, 'foot': True}


def test_categories_by_the_files_own_names(write):
    persons = [person(1, category_id=0), person(2, category_id='7'), person(3, category_id=2)]

    def ids(categories, **options):
        return [p.id for p in read_coco(write(*persons, categories=categories), 'coco17', **options).persons]

    assert ids(None) == ids([]) == ids([{'name': 'person'}]) == [1, 2, 3]
    assert ids([{'id': 7, 'name': 'PERSON'}, {'id': 2, 'name': 'car'}]) == [2]
    assert ids([{'id': 7, 'name': 'skier', 'keypoints': NAMES}, {'id': 2, 'name': 'car', 'keypoints': []}]) == [2]
    assert ids([{'id': 2, 'name': 'skier'}]) == [3]
    assert ids([{'id': 7, 'name': 'person'}, {'id': 2, 'name': 'car'}], category='Car') == [3]
    assert ids([{'id': 7, 'name': 'person'}, {'id': 2, 'name': 'car'}], category=2) == [3]
    with pytest.raises(UserError, match=r'none of its categories is a person: cat \(1\), dog \(2\).*category='):
        ids([{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}])
    with pytest.raises(UserError, match="no category 'horse'; it has cat"):
        ids([{'id': 1, 'name': 'cat'}], category='horse')


def test_one_id_of_two_images_is_an_error_that_names_both(write):
    images = [{'id': 1, 'file_name': 'a.jpg'}, {'id': '1', 'file_name': 'b.jpg'}]
    with pytest.raises(UserError, match=r"image id 1 is used for 'a.jpg' and for 'b.jpg'"):
        read_coco(write(images=images))
    assert len(read_coco(write(images=[images[0], images[0]])).images) == 1


def test_what_is_left_out_or_listed_twice_is_noted(write):
    images = [{'id': i, 'file_name': 'a.jpg'} for i in (1, 3)]
    file = read_coco(write(person(), person(2, category_id=5), images=images))
    assert len(file.persons) == 1
    assert list(file.notes) == [
        "images that are listed under two ids: 1 (first: 'a.jpg', ids 1 and 3)",
        'annotations of other categories, left out: 1 (first: category 5)',
    ]
    with pytest.raises(UserError, match="'a.jpg' is listed twice, as 1 and as 3; keep one"):
        file.find_image('photos/a.jpg')


@pytest.mark.parametrize('area', [0, None, -5, float('nan'), 'x', []])
def test_an_area_that_is_none_is_that_of_the_box(write, area):
    file = read_coco(write(person(area=area)), 'coco17')
    assert file.persons[0].area == pytest.approx(0.53 * 120 * 220)
    assert 'persons without an area, taken as 0.53 of the box: 1 (first: annotation 1)' in list(file.notes)
    assert read_coco(write(person(area='12.5')), 'coco17').persons[0].area == 12.5


BAD_BOXES = [[0, 0, 0, 0], [5, 5, -3, -4], [float('nan')] * 4, [1e999, 0, 5, 5], [900, 50, 20, 20], [-50, 9, 40, 9],
             None, [], [10**40, 1, 1, 1]]  # fmt: skip


@pytest.mark.parametrize('bbox', BAD_BOXES)
def test_a_box_that_is_none_is_that_of_the_keypoints_and_counted(write, bbox):
    unlabelled = person(2, bbox=bbox, keypoints=[0] * 51)
    file = read_coco(write(person(bbox=bbox), unlabelled), 'coco17')
    first, second = file.persons
    x, y, w, h = first.bbox
    assert (POINTS[:, :2] > [x, y]).all() and (POINTS[:, :2] < [x + w, y + h]).all() and w < 120 and h < 220
    assert second.bbox is None and second.problem and second.ignored and not first.ignored
    counted = ' '.join(file.notes)
    assert 'get the box around their keypoints: 1 (first: annotation 1)' in counted
    assert 'without keypoints are dropped: 1 (first: annotation 2)' in counted
    # Boxes alone are read without a vocabulary; the points still say where the person is.
    np.testing.assert_allclose(read_coco(write(person(bbox=bbox))).persons[0].bbox, first.bbox)


def test_nulls_and_strings_have_their_obvious_meaning(write):
    for size in ({'width': None, 'height': None}, {}, {'width': 0, 'height': 0}, {'width': '', 'height': ''}):
        assert read_coco(write(images=[{'id': 1, 'file_name': 'a.jpg', **size}])).images[1].size is None
    image = {'id': '1', 'file_name': 'a.jpg', 'width': '640', 'height': 480.0}
    assert read_coco(write(images=[image])).images['1'].size == (480, 640)
    for nothing in (None, []):
        found = read_coco(write(person(keypoints=nothing)), 'coco17').persons[0]
        assert found.keypoints is None and found.ignored and not found.labelled
    assert read_coco(write(person(iscrowd='0')), 'coco17').persons[0].crowd is False
    assert read_coco(write(person(iscrowd=None)), 'coco17').persons[0].crowd is False
    assert read_coco(write(person(iscrowd='1')), 'coco17').persons[0].crowd is True
    text = [str(v) for v in POINTS.ravel()]
    np.testing.assert_allclose(read_coco(write(person(keypoints=text)), 'coco17').persons[0].keypoints, POINTS)
    nested = read_coco(write(person(keypoints=POINTS.tolist(), bbox=['1', '2', '3', '4'])), 'coco17').persons[0]
    np.testing.assert_allclose(nested.keypoints, POINTS)
    assert nested.bbox.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        (dict(image_id=9), 'belongs to image 9, which is not listed'),
        (dict(image_id=None), 'has no "image_id"'),
        (dict(bbox=[1, 2, 3]), '"bbox" of four numbers'),
        (dict(bbox='wide'), '"bbox" of four numbers'),
        (dict(keypoints=[1, 2, 2]), 'has 1 keypoints'),
        (dict(keypoints=['x'] * 51), 'keypoints that are no numbers'),
        (dict(keypoints={'nose': 1}), 'no list of numbers'),
        (dict(iscrowd='maybe'), 'neither 0 nor 1'),
    ],
)
def test_what_has_no_meaning_is_one_line_with_file_and_annotation(write, fields, says):
    path = write(person(7, **fields))
    with pytest.raises(UserError) as caught:
        read_coco(path, 'coco17')
    assert str(caught.value).startswith(f'{path}: annotation 7') and says in str(caught.value)
    assert '\n' not in str(caught.value)


def test_points_that_are_not_finite_are_unlabelled(write):
    points = POINTS.copy()
    points[3, 0], points[4, 1], points[5, 2] = np.nan, 1e300, 0.4
    found = read_coco(write(person(keypoints=points.ravel().tolist())), 'coco17')
    kept = found.persons[0].keypoints
    assert np.isfinite(kept).all() and kept[3:6, 2].tolist() == [0, 0, 1]
    assert 'not finite' in ' '.join(found.notes)


def test_points_that_a_tool_puts_into_the_corner_are_absent(write):
    """Tools that write v = 2 for all points of a person put those that nobody set to (0, 0)."""
    points = POINTS.copy()
    points[3, :2], points[4, 0] = 0, 0
    found = read_coco(write(person(keypoints=points.ravel().tolist())), 'coco17')
    assert found.persons[0].keypoints[3:6, 2].tolist() == [0, 2, 2]
    assert 'persons with keypoints at exactly (0, 0), taken as unlabelled: 1 (first: annotation 1)' in found.notes


def test_what_a_file_does_not_say_of_its_points_is_noted(write):
    found = read_coco(write(categories=[{'id': 1, 'name': 'person'}]), 'coco17')
    assert "do not name their keypoints, taken in the order of 'coco17'" in ' '.join(found.notes)
    with pytest.raises(UserError, match='"keypoints" of a category are no list of names; mend the file'):
        read_coco(write(categories=[{'id': 1, 'name': 'person', 'keypoints': ','.join(NAMES)}]), 'coco17')


def test_a_person_that_is_labelled_twice_is_noted(write):
    """Merged exports hold people twice, of whom one is always missed in scores."""
    found = read_coco(write(person(1), person(2, bbox=[9, 99, 122, 222]), person(3, keypoints=None)), 'coco17')
    assert 'persons with the same keypoints as another of their image: 1 (first: annotation 2)' in found.notes


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'])
def test_any_unicode_encoding(write, encoding):
    images = [{'id': 1, 'file_name': 'größe.jpg'}]
    assert read_coco(write(images=images, encoding=encoding)).images[1].file_name == 'größe.jpg'


def test_a_compressed_file_is_named(tmp_path):
    path = tmp_path / 'a.json.gz'
    path.write_bytes(gzip.compress(b'{"images": [], "annotations": []}'))
    with pytest.raises(UserError, match='a.json.gz: is compressed; unpack it$'):
        read_coco(path)


def test_images_are_found_by_id_name_and_path(write):
    images = [{'id': i, 'file_name': n} for i, n in [(1, 'x/1.jpg'), (2, 'y/1.jpg'), (785, '000000000785.jpg')]]
    file = read_coco(write(images=images))
    assert [file.find_image(i) for i in (785, '785', 785.0, '000000000785', 'demo/000000000785.jpg')] == [785] * 5
    assert file.find_image('photos/y/1.jpg') == 2 and file.find_image('photos\\x\\1.jpg') == 1
    assert file.find_image('z/1.jpg') is None and file.find_image('000000000785.png') is None
    with pytest.raises(UserError, match=r"'1.jpg' may be 'x/1.jpg' or 'y/1.jpg'"):
        file.find_image('1.jpg')


def test_points_without_a_third_number_are_told_from_other_points(write):
    flat = POINTS[:, :2].ravel().tolist()
    with pytest.raises(UserError, match='annotation 1 has x and y of 17 keypoints alone; write x, y, v'):
        read_coco(write(person(keypoints=flat)), 'coco17')


def test_boxes_in_three_formats_by_path(tmp_path, write):
    def boxes(document, **options):
        path = tmp_path / 'boxes.json'
        path.write_text(json.dumps(document), encoding='utf-8-sig')
        return read_coco_boxes(path, **options)

    plain = boxes({'a/1.jpg': [[0, 0, 5, 5, 0.9], [0, 0, 5, 5, 0.1], [5, 5, 5, 9]], 'b/1.jpg': [[1, 1, 9, 9]]},
                  threshold=0.3)  # fmt: skip
    assert plain.boxes[plain.find('photos/a/1.jpg')].tolist() == [[0, 0, 5, 5, pytest.approx(0.9)]]
    assert plain.boxes[plain.find('photos/b/1.jpg')][0, 4] == 1 and plain.find('photos/c.jpg') is None
    assert list(plain.notes)[1:] == ['boxes that are empty or not finite: 1 (first: a/1.jpg)']
    with pytest.raises(UserError, match='may be'):
        plain.find('1.jpg')
    with pytest.raises(UserError, match="'1.jpg' may be 'p/1.jpg' or 'q/1.jpg'"):
        one = boxes({'1.jpg': [[1, 1, 9, 9]]})
        one.find('p/1.jpg'), one.find('q/1.jpg')

    found = read_coco_boxes(write(person(bbox=[1, 2, 3, 4])))
    assert len(found.boxes[found.find('p/a.jpg')]) == 1 and found.sizes == {1: (480, 640)}
    listed = [{'image_id': '1', 'bbox': [1, 2, 3, 4], 'score': '0.5', 'category_id': c} for c in (0, 2)]
    with pytest.raises(UserError, match='has categories 0, 2'):
        boxes(listed)
    for found in (boxes(listed, category=2), boxes(listed[:1])):
        assert len(found.boxes[found.find('1.png')]) == 1
    file = read_coco(write(categories=[{'id': 2, 'name': 'person'}, {'id': 0, 'name': 'car'}]))
    found = boxes(listed, coco=file)
    assert found.boxes[1].tolist() == [[1, 2, 4, 6, 0.5]]
    assert list(found.notes) == ['results of other categories, left out: 1 (first: result 0)']
    with pytest.raises(UserError, match="belongs to image 'z.jpg'"):
        boxes([{**listed[0], 'image_id': 'z.jpg'}], coco=file)


def test_results_go_to_the_files_images(tmp_path, write):
    images = [{'id': 785, 'file_name': '000000000785.jpg'}]
    file = read_coco(write(person(image_id=785), images=images), 'coco17')
    result = {'image_id': '000000000785', 'keypoints': POINTS.ravel().tolist(), 'score': 0.5, 'foot_score': 0.25}
    path = tmp_path / 'results.json'
    path.write_text(json.dumps([result, {**result, 'category_id': 3}, {**result, 'category_id': 1}]))
    (first, second), notes = read_coco_results(path, 'coco17', file)
    assert first.image_id == second.image_id == 785 and first.part_scores == {'foot': 0.25}
    assert len(notes) == 1
    for broken in ({'score': float('nan')}, {'keypoints': None}, {'keypoints': [float('inf')] * 51}, {'image_id': []}):
        path.write_text(json.dumps([{**result, **broken}]))
        with pytest.raises(UserError, match='result 0'):
            read_coco_results(path, 'coco17', file)


def mutations(document, count, seed=0):
    """Damaged copies of a document."""
    rng = np.random.default_rng(seed)
    return (mutate(document, rng) for _ in range(count))


def test_no_malformed_file_ends_in_a_traceback(tmp_path, write):
    images = [{'id': 1, 'file_name': 'a.jpg', 'width': 640, 'height': 480}, {'id': 2, 'file_name': 'b/c.jpg'}]
    path = write(person(1), person(2, face_valid=True), images=images)
    gt = read_coco(path, 'coco17')
    results = [{'image_id': 1, 'category_id': 1, 'bbox': [1, 2, 30, 40], 'score': 0.5, 'foot_score': 0.1,
                'keypoints': POINTS.ravel().tolist()}] * 2  # fmt: skip
    named = {'a.jpg': [[1, 2, 3, 4, 0.5]], 'b/c.jpg': [[1, 2, 3, 4]]}
    readers = [
        (json.loads(path.read_text()), [lambda p: read_coco(p, 'coco17'), read_coco_boxes]),
        (results, [lambda p: read_coco_results(p, 'coco17', gt), lambda p: read_coco_boxes(p, gt), read_coco_boxes]),
        (named, [read_coco_boxes]),
    ]
    broken = tmp_path / 'broken.json'
    outcomes = {True: 0, False: 0}
    for document, read in readers:
        text = json.dumps(document).encode()
        texts = [text[: len(text) * i // 20] for i in range(20)] + [
            b'[' * 100000,
            b'\xff\xfe\x00',
            b'9' * 5000,
            b'null',
        ]
        for data in [json.dumps(m).encode() for m in mutations(document, 250)] + texts:
            broken.write_bytes(data)
            for call in read:
                try:
                    call(broken)
                    outcomes[True] += 1
                except UserError as error:
                    assert str(broken) in str(error) and '\n' not in str(error)
                    outcomes[False] += 1
    assert min(outcomes.values()) > 100, 'both outcomes are tried'


def test_boxes_that_the_threshold_drops_are_counted(tmp_path):
    """In each of the three formats; nothing is said where nothing is dropped."""
    person = dict(image_id=1, bbox=[1, 2, 30, 40], score=0.1, category_id=1)
    full = dict(
        images=[dict(id=1, file_name='a.jpg')], annotations=[dict(person, id=1)], categories=[dict(id=1, name='person')]
    )
    for document in ({'a.jpg': [[1, 2, 31, 42, 0.1]]}, [person], full):
        path = tmp_path / 'boxes.json'
        path.write_text(json.dumps(document))
        assert any(
            note.startswith('boxes with a score below 0.3, left out: 1')
            for note in read_coco_boxes(path, threshold=0.3).notes
        )
        assert not any('below' in note for note in read_coco_boxes(path, threshold=0.05).notes)
