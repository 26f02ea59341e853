# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The set with known answers: every kind is there, in a folder of its own, and what filters say of it is counted."""

import importlib.util
import json

import cv2
import numpy as np
import pytest

from sapiens.curation.filter_scores import score_filters
from sapiens.curation.made_set import SHARES, make_set
from sapiens.datasets.manifest_writer import ManifestWriter
from sapiens.errors import UserError

pytest.importorskip('PIL')


def people(folder, count):
    """Renders of somebody large."""
    with ManifestWriter(folder) as writer:
        for number in range(count):
            image = np.random.default_rng(number).integers(0, 255, (12, 9, 3)).astype(np.uint8)
            mask = np.zeros((64, 48), np.uint8)
            mask[4:60, 8:40] = 1
            persons = [{'bbox': [8, 4, 32, 56]}]
            writer.write(f'{number:03d}', cv2.resize(image, (48, 64)), mask=mask, persons=persons)
    return str(folder)


def test_a_made_set_and_what_filters_make_of_it(tmp_path):
    (tmp_path / 'empty').mkdir()
    cv2.imwrite(str(tmp_path / 'empty/a.jpg'), np.random.default_rng(9).integers(0, 255, (60, 80, 3)).astype(np.uint8))
    renders = people(tmp_path / 'people', 12)
    out = tmp_path / 'set'
    names = list(make_set(renders, str(tmp_path / 'empty'), out, 10))
    truth = json.loads((out / 'truth.json').read_text())
    assert sorted(truth) == names and {fact['kind'] for fact in truth.values()} == set(SHARES)
    files = {path.name: path.parent.name for path in out.glob('images/*/*.jpg')}
    assert files == {name: fact['kind'] for name, fact in truth.items()}
    (copy,) = (fact for fact in truth.values() if fact['kind'] == 'copy')
    assert truth[copy['of']]['kind'] == 'good'
    with pytest.raises(UserError, match='holds a set already'):
        list(make_set(renders, str(tmp_path / 'empty'), out, 10))
    with pytest.raises(UserError, match='8 images are too few for 9 kinds'):
        list(make_set(renders, str(tmp_path / 'empty'), tmp_path / 'more', 8))
    with pytest.raises(UserError, match='12 renders show somebody large, .* are needed'):
        list(make_set(renders, str(tmp_path / 'empty'), tmp_path / 'more', 100))
    if not importlib.util.find_spec('pyarrow'):
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {'drawing': ['art'], 'watermark': ['art'], 'text': ['text'], 'poor': ['text']}
    rows = [dict(name=f'{fact["kind"]}/{name}', reasons=said.get(fact['kind'], ['x'] * (fact['kind'] != 'good')),
                 reason=None) for name, fact in truth.items()]  # fmt: skip
    (tmp_path / 'done/decisions').mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / 'done/decisions/0.parquet')
    found = {row[0]: row[1:] for row in score_filters(out, tmp_path / 'done')}
    assert found['art'] == [1, 0.5, 1.0, 0, 1.0] and found['text'] == [1, 0.5, 1.0, 0, 1.0]
    assert found['all together: what is kept'][1:4] == [1.0, 1.0, 0]
