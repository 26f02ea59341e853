# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Names of shipped files resolve from any folder; the index for `mim` lists every config."""

from pathlib import Path

import pytest
import yaml

from sapiens.engine import load_config
from sapiens.utils.shipped import find_config_file, shipped_configs, shipped_root

ROOT = Path(__file__).parents[2]
NAMES = ['sapiens_1b_308kpt', 'pose/sapiens_1b_308kpt.py', 'configs/pose/sapiens_1b_308kpt.py']


@pytest.mark.parametrize('name', NAMES)
def test_configs_are_found_from_any_folder_and_own_files_come_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config_file(name) == ROOT / 'configs/pose/sapiens_1b_308kpt.py'
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text('')
    assert find_config_file(name).resolve() == own
    assert find_config_file('gone.py') == Path('gone.py')


def test_a_config_anywhere_inherits_ours_by_name(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'sapiens::seg/sapiens_tiny_20cls.py'\nmodel = dict(test_cfg=dict(a=1))\n"
    )
    mine, ours = load_config(tmp_path / 'mine.py'), load_config('sapiens_tiny_20cls')
    assert mine.model.test_cfg.pop('a') == 1 and mine.model.backbone == ours.model.backbone


def test_the_index_lists_every_config():
    index = yaml.safe_load((shipped_root() / 'model-index.yml').read_text())
    models = [m for file in index['Import'] for m in yaml.safe_load((shipped_root() / file).read_text())['Models']]
    listed = {model['Name']: model['Config'] for model in models}
    there = {stem: path.relative_to(shipped_root()).as_posix() for stem, path in shipped_configs().items()}
    assert listed == there, 'add the new config to configs/metafile.yml'
