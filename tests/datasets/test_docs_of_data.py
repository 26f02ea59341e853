# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pages about own data run word for word."""

import json
import re
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sapiens.engine.config import load_config
from sapiens.registry import DATASETS

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.mark.parametrize('section', ['Own keypoints', 'Own classes', 'Own depth and normals'])
def test_section_from_an_export_to_a_running_demo(section, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    page = (DOCS / 'train_your_own.md').read_text()
    text = page.partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    commands = []
    for kind, block in re.findall(r'^```(python|sh)\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        if kind == 'python':
            exec(block, {})
        else:
            commands += block.splitlines()
    assert len(commands) >= 4
    for command in commands:
        _, script, *arguments = command.split()
        done = run_script(script, *arguments)
        assert done.code == 0, f'{command}: {done.err or done.out[-2000:]}'
    torch.set_num_threads(threads)
    assert len(list((tmp_path / 'drawn').iterdir())) == 4
    assert len(list((tmp_path / 'predicted').glob('*.json'))) >= 8


def test_the_config_of_the_page_of_data_reads_own_data_for_training_and_validation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = (DOCS / 'data.md').read_text().partition('## Your own data')[2]
    block = re.search(r'^   ```python\n(.*?)^   ```', section, re.DOTALL | re.MULTILINE)[1]
    Path('mine.py').write_text(textwrap.dedent(block))
    classes = [{'name': name} for name in ('background', 'shirt')]
    Path('my_parts.json').write_text(json.dumps({'name': 'my_parts', 'kind': 'parts', 'classes': classes}))
    for folder, count in (('train', 3), ('val', 2)):
        for kind, ending in (('images', 'jpg'), ('labels', 'png')):
            Path('data/mine', folder, kind).mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(f'data/mine/{folder}/{kind}/{i}.{ending}', np.ones((32, 24), np.uint8))
    config = load_config('mine.py')
    for loader, count in (('train', 3), ('val', 2), ('test', 2)):
        dataset = DATASETS.build(config[f'{loader}_dataloader'].dataset)
        assert len(dataset) == count and dataset[0]['inputs'].shape[1:] == config.input_size


def test_polygons_of_labelme_and_coco_become_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('labelme', 'coco', 'masks'):
        Path(folder).mkdir()
    shape = {'label': 'shirt', 'points': [[2.2, 2], [8, 2], [8, 8], [2, 8]], 'shape_type': 'polygon'}
    photo = {'imagePath': '..\\photos\\a.jpg', 'imageHeight': 20, 'imageWidth': 10, 'shapes': [shape]}
    Path('labelme/a.json').write_text(json.dumps(photo))
    coco = {
        'images': [{'id': 7, 'file_name': 'photos/b.jpg', 'height': 20, 'width': 10}],
        'categories': [{'id': 4, 'name': 'hat'}],
        'annotations': [{'image_id': 7, 'category_id': 4, 'segmentation': [[2, 2, 8, 2, 8, 8, 2, 8]]}],
    }
    Path('coco/all.json').write_text(json.dumps(coco), encoding='utf-8-sig')
    page = (DOCS / 'train_your_own.md').read_text()
    exec(re.search(r'```python\n(import glob, json.*?)```', page, re.DOTALL)[1], {})
    for name, value in (('a', 1), ('b', 3)):
        ids = cv2.imread(f'masks/{name}.png', cv2.IMREAD_UNCHANGED)
        assert ids.shape == (20, 10) and set(np.unique(ids)) == {0, value} and (ids[2:9, 2:9] == value).all()
