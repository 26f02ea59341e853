# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Reading configs: what a file may do, and what is said when it is wrong."""

import pytest
from mmengine.config import Config

from sapiens.engine import config as config_module
from sapiens.engine.config import ConfigError, load_config

EVIL = [
    ('!!python/object/apply:os.system ["touch ran"]', '!!python/object/apply:os.system'),
    ('!!python/object/new:os.system ["touch ran"]', '!!python/object/new:os.system'),
    ('!!python/name:os.system', '!!python/name:os.system'),
    ('!!python/module:os', '!!python/module:os'),
    ('!mine {a: 1}', None),
]


@pytest.mark.parametrize(('text', 'tag'), EVIL)
@pytest.mark.parametrize('where', ['file', 'base of yaml', 'base of python'])
def test_yaml_runs_no_code(tmp_path, monkeypatch, text, tag, where):
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / 'evil.yaml'
    evil.write_text(f'a: 1\nb: {text}\n')
    path = evil
    if where == 'base of yaml':
        path = tmp_path / 'child.yml'
        path.write_text('_base_: ./evil.yaml\nc: 3\n')
    elif where == 'base of python':
        path = tmp_path / 'child.py'
        path.write_text("_base_ = ['./evil.yaml']\n")
    with pytest.raises(ConfigError, match='evil.yaml:2: ') as error:
        load_config(path)
    assert not (tmp_path / 'ran').exists()
    assert '\n' not in str(error.value) and 'refused' in str(error.value)
    assert tag is None or f'the tag {tag} runs code' in str(error.value)


def test_only_a_config_that_is_alike_is_proposed(tmp_path):
    for name in ('setup.py', 'faces_small.py'):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match='no such config; the configs are in the folder configs/'):
        load_config(tmp_path / 'none.py')
    with pytest.raises(ConfigError, match="did you mean '.*/faces_small.py'"):
        load_config(tmp_path / 'face_small.py')


def test_plain_yaml_is_a_config(tmp_path):
    (tmp_path / 'base.yaml').write_text('size: !!python/tuple [4, 3]\nname: a\n')
    path = tmp_path / 'child.yaml'
    path.write_text("_base_: base.yaml\nname: '{{ fileBasenameNoExtension }}'\nagain: {{ _base_.size }}\n")
    config = load_config(path)
    assert list(config.size) == list(config.again) == [4, 3] and config.name == 'child'
    path.write_text('a: [1\n')
    with pytest.raises(ConfigError, match='child.yaml: not valid YAML'):
        load_config(path)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'latin-1'])
@pytest.mark.parametrize('where', ['file', 'base'])
def test_a_config_in_another_encoding_is_one_line_that_names_the_mend(tmp_path, encoding, where):
    (tmp_path / 'odd.py').write_bytes("name = 'größe'\n".encode(encoding))
    (tmp_path / 'child.py').write_text("_base_ = 'odd.py'\n")
    with pytest.raises(ConfigError, match='odd.py: .*save it as UTF-8'):
        load_config(tmp_path / ('odd.py' if where == 'file' else 'child.py'))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            "custom_imports = dict(imports=['not_here.loss'])",
            "No module named 'not_here'; .*PYTHONPATH=. sapiens train",
        ),
        ('import not_here', "child.py: No module named 'not_here'; "),
        ('_base_ = []\nimport not_here', "child.py: No module named 'not_here'; "),
        ('from torch import not_here', 'child.py: .*not_here'),
    ],
)
def test_a_module_that_is_not_found_is_named(tmp_path, line, message):
    (tmp_path / 'child.py').write_text(line + '\n')
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / 'child.py')


@pytest.mark.parametrize(
    'line',
    [
        *('load_from = 5', 'resume = "a.pth"', 'work_dir = [1]', 'custom_hooks = 5', "custom_hooks = {'type': 'A'}"),
        *('train_cfg = 100', 'model = "1b"', 'train_dataloader = [{}]', 'test_dataloader = 1.5', 'vocabulary = 17'),
        *(
            'optim_wrapper = "AdamW"',
            'model = {"type": "HumanEstimator", "heads": [1]}',
            'model = {"type": "HumanEstimator", "backbone": "SapiensViT"}',
            'randomness = 0',
        ),
        *('val_evaluator = "PCK"', 'precision = {"a": 1}', 'fsdp = "yes"', 'default_scope = True'),
        *('log_processor = {"window_size": "a"}', 'default_hooks = {"checkpoint": {"interval": "a"}}'),
        *('train_dataloader = {"num_workers": 1.5}', 'randomness = {"seed": "a"}'),
        'env_cfg = {"dist_cfg": 3}',
    ],
)
def test_a_value_of_another_kind_is_named_with_its_file(tmp_path, line):
    (tmp_path / 'child.py').write_text(line + '\n')
    key = line.partition(' ')[0]
    with pytest.raises(ConfigError, match=rf'child.py: {key}[.\w]* = .*: give (a|the|text|True|\()') as error:
        load_config(tmp_path / 'child.py')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('base', ["'base.py'", "['base.py', 'more.py']", '[]'])
def test_an_imported_class_is_a_type(tmp_path, base):
    """mmengine could write no checkpoint of such a config, and not the config beside the log."""
    (tmp_path / 'base.py').write_text("model = dict(type='HumanEstimator')\n")
    (tmp_path / 'more.py').write_text("work_dir = 'runs'\n")
    path = tmp_path / 'child.py'
    path.write_text(
        f'_base_ = {base}\nimport torch.nn as nn\nfrom sapiens.models.heads import PartHead\n'
        "vocabulary = 'parts20'\nmodel = dict(heads=dict(seg=dict(type=PartHead)), layers=[dict(type=nn.ReLU)])\n"
    )
    config = load_config(path)
    again = {}
    exec(config.pretty_text, again)
    assert again['model'] == config.model and 'PartHead' not in config
    head, layer = config.model.heads.seg, config.model.layers[0]
    assert (head.vocabulary, head.type, layer.type) == (
        'parts20',
        'sapiens.models.heads.part.PartHead',
        'torch.nn.modules.activation.ReLU',
    )
    path.write_text(f'_base_ = {base}\nfrom torch import nn\nmodel = dict(neck=dict(act=nn.ReLU))\n')
    with pytest.raises(ConfigError, match=r'child.py: model.neck.act = .*ReLU.*: a config holds plain values'):
        load_config(path)


def test_a_config_is_formatted_once(monkeypatch):
    calls = []
    monkeypatch.setattr(config_module, 'FormatCode', lambda code, **_: calls.append(code) or (code, True))
    config = Config(dict(a_key_of_this_test=1))
    assert config.pretty_text == config.copy().pretty_text == calls[0]
    config.a_key_of_this_test = 2
    assert config.pretty_text != calls[0] and len(calls) == 2
