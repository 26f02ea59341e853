# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The console command: every command explains itself at once, and is the same code as its script."""

import importlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import sapiens
from sapiens import cli
from sapiens.apis.cli import chosen_models
from sapiens.commands.convert import LAYOUTS
from sapiens.commands.options import add_inference_options, new_parser, parse_value
from sapiens.engine.convert import TARGETS

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    'predict': 'demo/image_demo.py',
    'video': 'demo/video_demo.py',
    'webcam': 'demo/webcam_demo.py',
    'app': 'demo/app.py',
    'train': 'tools/train.py',
    'test': 'tools/test.py',
    'convert': 'tools/convert_checkpoint.py',
    'check-data': 'tools/check_dataset.py',
    'browse-data': 'tools/browse_dataset.py',
    'render': 'tools/synthesis/render.py',
}


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', ['sapiens', *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_list_names_every_command(monkeypatch, capsys):
    for arguments in ([], ['--help']):
        code, out, _ = call(monkeypatch, capsys, *arguments)
        assert code == 0 and all(f'\n  {name} ' in out for name in cli.COMMANDS) and 'Example: sapiens ' in out
    modules = {p.stem for p in (ROOT / 'sapiens/commands').glob('*.py')} - {'__init__', 'options'}
    assert {name.replace('-', '_') for name in cli.COMMANDS} == modules
    assert call(monkeypatch, capsys, '--version')[:2] == (0, f'sapiens-toolkit {sapiens.__version__}\n')


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_help_shows_an_example_and_every_option_is_explained(monkeypatch, capsys, name):
    monkeypatch.setenv('COLUMNS', '200')
    code, out, _ = call(monkeypatch, capsys, name, '--help')
    assert code == 0 and out.startswith(f'usage: sapiens {name} ') and f'Example: sapiens {name}' in out


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_help_says_every_default(monkeypatch, name):
    parsers = []
    monkeypatch.setattr('argparse.ArgumentParser.parse_args', lambda self: parsers.append(self) or sys.exit())
    with pytest.raises(SystemExit):
        importlib.import_module(f'sapiens.commands.{name.replace("-", "_")}').main()
    for action in parsers[0]._actions:
        if action.option_strings and action.nargs != 0 and action.default not in (None, '', [], {}, '==SUPPRESS=='):
            assert 'default' in parsers[0]._get_formatter()._expand_help(action), action.option_strings


def test_help_says_no_default_that_is_nothing(capsys):
    parser = new_parser('')
    parser.add_argument('--suffix', default='', help='after the name')
    parser.print_help()
    assert 'default' not in capsys.readouterr().out


@pytest.mark.parametrize('options', [[], ['--model', 'tiny']])
def test_the_model_that_ships_has_its_detector_however_it_is_named(options):
    parser = new_parser('')
    add_inference_options(parser)
    for boxes, detector in (([], 'tiny'), (['--bbox', '1,2,3,4'], None), (['--detector', 'whole'], 'whole')):
        args = parser.parse_args([*options, *boxes])
        assert chosen_models(args) == ['tiny'] and args.detector == detector
    args = parser.parse_args(['--model', 'tiny', '--checkpoint', 'mine.pth'])
    assert chosen_models(args) == ['tiny'] and args.detector is None


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_help_and_mistyped_options_need_nothing_heavy(name):
    code = (
        "import sys; sys.argv = ['sapiens', sys.argv[1], sys.argv[2]]\n"
        'from sapiens.cli import main\n'
        'try: main()\n'
        'except SystemExit as end: code = end.code\n'
        "heavy = {'torch', 'cv2', 'mmengine', 'mmcv'} & set(sys.modules)\n"
        'sys.exit(str(heavy) if heavy else (code or 0) + 10)'
    )
    for option, expected in (('--help', 10), ('--no-such-option', 12)):
        done = subprocess.run([sys.executable, '-c', code, name, option], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == expected, done.stderr[-500:]


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_call_the_same_function(name):
    path = ROOT / SCRIPTS[name]
    assert len(path.read_text().splitlines()) < 20
    command = importlib.import_module(f'sapiens.commands.{name.replace("-", "_")}')
    spec = importlib.util.spec_from_file_location('a_script', path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main is command.main


def test_a_mistyped_command_names_the_nearest(monkeypatch, capsys):
    code, _, err = call(monkeypatch, capsys, 'predcit')
    assert (code, err) == (1, "error: sapiens has no command 'predcit'; did you mean 'predict'?\n")
    code, _, err = call(monkeypatch, capsys, 'xyz')
    assert code == 1 and 'commands are predict, video' in err


@pytest.mark.parametrize(
    ('arguments', 'least'),
    [
        ('predict a.jpg --batch-size 0', 1), ('video a.mp4 --max-frames -3', 1), ('check-data c.py --workers -1', 0),
        ('browse-data c.py --num 0', 1), ('browse-data c.py --seed 4294967296', 0),
        ('test c.py w.pth --bootstrap x', 0), ('train c.py --seed -1', 0), ('estimate-memory c.py --fsdp 0', 1),
        ('render --out o --num 4 --workers 0', 1), ('render --out o --num 0', 1),
        ('curate c.py a b --num-cpus 0', 1), ('app --port -1', 0),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_said_before_anything_begins(monkeypatch, capsys, arguments, least):
    code, _, err = call(monkeypatch, capsys, *arguments.split())
    assert code == 2 and f'is no whole number of at least {least}' in err.splitlines()[-1]


@pytest.mark.parametrize('amount', ['nan', 'inf', '-1', 'much'])
@pytest.mark.parametrize('command', ['estimate-memory c.py --gpu-memory', 'predict a.jpg --threshold'])
def test_amounts_that_make_no_sense_are_said_before_anything_begins(monkeypatch, capsys, command, amount):
    code, _, err = call(monkeypatch, capsys, *command.split(), amount)
    assert code == 2 and f"'{amount}' is no number of at least 0" in err.splitlines()[-1]


def test_info(monkeypatch, capsys, tmp_path):
    code, out, _ = call(monkeypatch, capsys, 'info')
    assert code == 0 and f'sapiens-toolkit: {sapiens.__version__} in ' in out and f'torch {version("torch")}' in out
    (tmp_path / 'a.pth').write_bytes(b'')
    code, _, err = call(monkeypatch, capsys, 'info', tmp_path / 'a.pth')
    assert code == 1 and 'a.pth: the checkpoint is empty' in err


@pytest.mark.skipif(os.name != 'posix', reason='needs links and devices')
@pytest.mark.parametrize('command', ['info', 'train', 'estimate-memory'])
@pytest.mark.parametrize('kind', ['device', 'link to nothing'])
def test_what_is_there_but_no_file_is_not_proposed_again(monkeypatch, capsys, tmp_path, command, kind):
    path = tmp_path / 'own.py'
    path.symlink_to(os.devnull if kind == 'device' else 'gone.py')
    code, _, err = call(monkeypatch, capsys, command, path)
    assert code == 1 and err.startswith(f'error: {path}: ') and err.count(str(path)) == 1


def test_layouts_of_convert_are_those_there_are():
    assert tuple(TARGETS) == LAYOUTS


def test_download_lists_what_is_published_and_names_the_nearest(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, 'download', '--list')
    (line,) = [line for line in out.splitlines() if line.startswith('pose_308_1b ')]
    assert code == 0 and line.split() == ['pose_308_1b', 'facebook/sapiens-pose-1b', 'CC-BY-NC-4.0']
    monkeypatch.setattr('sapiens.engine.hub.download', lambda *_: pytest.fail('fetched before all names were read'))
    wrong, near = 'pose_308_1bb', "did you mean 'pose_308_1b'?"
    for arguments, message in (([wrong], near), (['pose_308_1b', wrong], near), ([], 'say what to download')):
        code, _, err = call(monkeypatch, capsys, 'download', *arguments)
        assert code == 1 and message in err and err.count('\n') == 1


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        *((text, text) for text in ('my photos/a  b', 'photos (1)/x', '2024_11_27', "it's", 'lora:8', '')),
        *(("'a, b'", 'a, b'), ("['a b,c', d]", ['a b,c', 'd']), ('1, 2', [1, 2]), ('"[1,2]"', [1, 2]), ('[]', [])),
        *(('[(1,2),[a, b],c]', [(1, 2), ['a', 'b'], 'c']), ('[1,2],[3,4]', [[1, 2], [3, 4]]), ('(64,48)', (64, 48))),
        *(('1e-3', 0.001), ('-1', -1), ('False', False), ('None', None)),
    ],
)
def test_paths_stay_as_they_are_in_options_of_a_config(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


@pytest.mark.parametrize('text', ["{'a': 1}", '[1,(2,3]', "['a,b]"])
def test_options_of_a_config_that_are_no_plain_values_are_refused(text):
    with pytest.raises(ValueError):
        parse_value(text)
