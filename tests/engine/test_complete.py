# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a config says once; parts that disagree; what training starts from."""

import copy
import json
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from sapiens.engine import SapiensRunner, load_config, start
from sapiens.engine.complete import check_agreement, complete_config
from sapiens.engine.start import choose_start
from sapiens.errors import UserError
from sapiens.registry import TRANSFORMS
from sapiens.vocabularies import load_vocabulary, parse_vocabulary, vocabulary_difference


@pytest.fixture
def own_parts(tmp_path):
    """A vocabulary of four classes that is called like a shipped one."""
    document = dict(name='parts28', kind='parts', classes=[dict(name=n) for n in ('background', 'hat', 'coat', 'shoe')])
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(document))
    return str(path)


def derived(tmp_path, base, text):
    path = tmp_path / 'derived.py'
    path.write_text(f"_base_ = '{base}'\n{text}")
    return load_config(path)


def base(root_relative):
    from pathlib import Path

    return Path(__file__).parents[2] / 'configs' / root_relative


def test_one_line_sets_the_vocabulary_of_data_model_and_metric(tmp_path, own_parts):
    config = derived(tmp_path, base('seg/sapiens_tiny_28cls.py'), f'vocabulary = {own_parts!r}')
    assert config.model.heads.seg.vocabulary == config.val_evaluator.vocabulary == own_parts
    for phase in ('train', 'val', 'test'):
        assert config[f'{phase}_dataloader'].dataset.part_vocabulary == own_parts
        assert 'keypoint_vocabulary' not in config[f'{phase}_dataloader'].dataset
    # Beside the config it is found from any folder.
    beside = derived(tmp_path, base('seg/sapiens_tiny_28cls.py'), "vocabulary = 'mine.json'")
    assert beside.model.heads.seg.vocabulary == own_parts


def test_it_works_as_an_option_and_for_two_kinds(own_parts):
    config = load_config(base('multitask/sapiens_tiny_4tasks.py'), {'vocabulary': ['coco17', own_parts]})
    heads = config.model.heads
    assert heads.pose.vocabulary == 'coco17' and heads.seg.vocabulary == own_parts
    dataset = config.test_dataloader.dataset
    assert (dataset.keypoint_vocabulary, dataset.part_vocabulary) == ('coco17', own_parts)
    assert {m.type: m.get('vocabulary') for m in config.val_evaluator} == {
        'PCK': 'coco17', 'PartIoU': own_parts, 'DepthMetric': None, 'NormalMetric': None
    }  # fmt: skip
    with pytest.raises(UserError, match="unknown vocabulary 'coco18': did you mean 'coco17'"):
        load_config(base('pose/sapiens_tiny_17kpt.py'), {'vocabulary': 'coco18'})


def test_a_task_is_left_out_with_its_metrics():
    path = base('multitask/sapiens_tiny_4tasks.py')
    config = load_config(path, {'model.heads.seg': None, 'model.heads.depth': None})
    assert {*config.model.heads} == {'pose', 'normal'}
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert [metric.type for metric in evaluator] == ['PCK', 'NormalMetric']
    assert complete_config(config) == config
    with pytest.raises(UserError, match='model.heads: every task is None; leave one in'):
        load_config(path, {f'model.heads.{task}': None for task in ('pose', 'seg', 'depth', 'normal')})


def test_the_input_size_stands_once(tmp_path):
    config = load_config(base('pose/sapiens_tiny_17kpt.py'), {'input_size': (320, 256)})
    loaders = [config[f'{phase}_dataloader'] for phase in ('train', 'val', 'test')]
    sizes = [config.model.backbone.img_size, *(loader.dataset.input_size for loader in loaders)]
    assert [tuple(size) for size in sizes] == [(320, 256)] * 4
    own = derived(tmp_path, base('pose/sapiens_tiny_17kpt.py'), 'model = dict(backbone=dict(img_size=(64, 48)))')
    assert own.model.backbone.img_size == (64, 48) and own.train_dataloader.dataset.input_size == (256, 192)


@pytest.mark.parametrize('size', [128, '128x96', (128,), (128, 0), (128.5, 96), [128, 96, 3]])
def test_an_input_size_that_is_none_is_named(tmp_path, size):
    with pytest.raises(UserError, match=r'input_size = .*: give \(H, W\), two whole numbers of pixels'):
        derived(tmp_path, base('pose/sapiens_tiny_17kpt.py'), f'input_size = {size!r}')


def test_words_that_mean_something_else_to_other_models_stay():
    foreign = dict(type='mmdet.SingleStageDetector', backbone='vgg16', heads=[dict(type='mmdet.SSDHead')])
    config = dict(model=foreign, input_size=300, vocabulary='coco17')
    assert complete_config(Config(copy.deepcopy(config))).model == foreign


def test_testing_is_validation_but_for_what_it_says(tmp_path):
    text = "test_dataloader = dict(batch_size=3, dataset=dict(ann_file='annotations/test.json'))\n"
    text += "test_evaluator = dict(type='KeypointAP', common_points=True)"
    config = derived(tmp_path, base('pose/sapiens_tiny_133kpt.py'), text)
    assert config.val_evaluator.ann_file == 'data/coco/annotations/coco_wholebody_val_v1.0.json'
    assert config.test_dataloader.batch_size == 3 and config.test_dataloader.dataset.test_mode
    assert config.test_evaluator.ann_file == 'data/coco/annotations/test.json'
    assert (config.test_evaluator.common_points, config.test_evaluator.vocabulary) == (True, 'wholebody133')
    part = derived(tmp_path, base('pose/sapiens_tiny_17kpt.py'), "test_evaluator = dict(ann_file='mine.json')")
    assert part.test_evaluator == dict(type='KeypointAP', ann_file='mine.json', vocabulary='coco17')
    text = "test_dataloader = dict(dataset=dict(ann_file='annotations/test.json'))"
    alone = derived(tmp_path, base('pose/sapiens_tiny_17kpt.py'), text)
    assert alone.test_evaluator.ann_file == 'data/coco/annotations/test.json'
    assert 'val2017' in alone.val_evaluator.ann_file
    text = "data = dict(_delete_=True, type='CocoKeypointDataset', ann_file='mine.json')\n"
    text += 'val_dataloader = dict(dataset=data)\ntest_dataloader = val_dataloader\n'
    own = derived(tmp_path, base('pose/sapiens_tiny_17kpt.py'), text)
    assert '_delete_' not in str(own) and own.test_dataloader == own.val_dataloader
    again = complete_config(Config(config.to_dict()))
    assert again.to_dict() == config.to_dict()


def test_repeated_and_joined_data_sets_get_it_too():
    leaf = dict(type='HumanManifestDataset', data_root='a')
    joined = dict(type='ConcatDataset', datasets=[dict(leaf), dict(type='RepeatDataset', times=2, dataset=dict(leaf))])
    foreign = dict(type='mmpose.CocoDataset', data_root='b')
    config = complete_config(
        Config(dict(train_dataloader=dict(dataset=joined), val_dataloader=dict(dataset=foreign), vocabulary='coco17',
                    input_size=(64, 48)))
    )  # fmt: skip
    one, other = config.train_dataloader.dataset.datasets
    for dataset in (one, other.dataset):
        assert (dataset.keypoint_vocabulary, tuple(dataset.input_size)) == ('coco17', (64, 48))
    assert config.val_dataloader.dataset == foreign


# ---------------------------------------------------------------- what does not agree


def test_differences_are_named():
    coco = load_vocabulary('coco17')
    assert vocabulary_difference(coco, coco) is None
    assert vocabulary_difference(coco, load_vocabulary('wholebody133')) == '17 here and 133 there'
    assert vocabulary_difference(coco, load_vocabulary('parts20')) == 'keypoints here and parts there'

    def points(*names, twin=None):
        entries = [dict(name=name) for name in names]
        if twin:
            entries[0]['swap'], entries[1]['swap'] = names[1], names[0]
        return parse_vocabulary(dict(name='mine', kind='keypoints', keypoints=entries), 'mine.json')

    assert vocabulary_difference(points('a', 'b'), points('a', 'c')) == 'number 1 is b here and c there'
    assert vocabulary_difference(points('a', 'b'), points('a', 'b', twin=True)) == 'the twin of a is a here and b there'


def run(config, tmp_path, what='train'):
    config.work_dir = str(tmp_path / 'run')
    config.experiment_name = tmp_path.name
    getattr(SapiensRunner.from_cfg(config), what)()


def test_data_and_head_that_differ_are_named(toy_config, tmp_path, own_parts):
    """28 classes named parts28 were trained on 4 of that name."""
    toy_config.train_dataloader.dataset.part_vocabulary = own_parts
    toy_config.model.heads.seg.vocabulary = 'parts28'
    with pytest.raises(
        UserError, match=r"ToyHumans has parts 'parts28' \(4 classes\), the head seg 'parts28' \(28 classes\)"
    ) as error:
        run(toy_config, tmp_path)
    assert "vocabulary = '...'" in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('what', ['val', 'test'])
def test_metric_and_head_that_differ_are_named(toy_config, tmp_path, what):
    toy_config[f'{what}_evaluator'] = dict(type='PCK', vocabulary='wholebody133')
    with pytest.raises(
        UserError, match=r"PCK scores keypoints 'wholebody133' \(133 keypoints\), the head pose 'coco17'"
    ):
        run(toy_config, tmp_path, what)


def test_data_in_another_vocabulary_that_the_metric_converts_to(toy_config, tmp_path):
    toy_config.val_dataloader.dataset.keypoint_vocabulary = 'wholebody133'
    with pytest.raises(UserError, match="ToyHumans has keypoints 'wholebody133'"):
        run(toy_config, tmp_path, 'val')
    toy_config.model.heads.pose.vocabulary = 'keypoints308'
    toy_config.val_evaluator = dict(type='KeypointAP', vocabulary='keypoints308', gt_vocabulary='wholebody133')
    SapiensRunner.from_cfg(
        {**toy_config.to_dict(), 'work_dir': str(tmp_path), 'experiment_name': 'convert'}
    ).build_val_loop({})


def test_data_of_another_size_than_the_keypoints(toy_config, tmp_path):
    toy_config.train_dataloader.dataset.input_size = (128, 96)
    with pytest.raises(
        UserError, match=r'ToyHumans gives inputs of \(128, 96\) \(H, W\), the head pose reads keypoints'
    ):
        run(toy_config, tmp_path)


# ---------------------------------------------------------------- what training starts from


@pytest.fixture
def decaying(toy_config):
    toy_config.optim_wrapper.paramwise_cfg.layer_decay_rate = 0.85
    return toy_config


def test_random_weights_are_not_trained_at_a_rate_for_pretrained_ones(decaying, tmp_path):
    """The patch embedding of a random encoder was trained at 2e-7."""
    with pytest.raises(UserError, match='load_from names no weights, but .* from_scratch=True'):
        run(decaying, tmp_path)
    decaying.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='encoder.pth')
    assert choose_start(decaying) is None


def test_from_scratch_turns_the_decay_off_and_says_so(decaying, train, tmp_path):
    decaying.from_scratch, decaying.load_from = True, 'facebook/sapiens-pretrain-1b'
    decaying.train_cfg.max_iters, decaying.log_level = 1, 'INFO'
    runner, _ = train(decaying)
    assert {group.get('lr_scale', 1.0) for group in runner.optim_wrapper.param_groups} == {1.0}
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'from_scratch: random weights, no layer-wise decay' in log.read_text()


def test_a_name_is_found_before_anything_is_built(decaying, tmp_path, monkeypatch):
    encoder = tmp_path / 'encoder.pth'
    encoder.touch()
    answers = {'facebook/sapiens-pretrain-1b': encoder, 'other.pth': tmp_path / 'other.pth'}

    def resolve_weights(name):
        if name not in answers:
            raise UserError(f"'{name}': no network")
        return answers[name]

    monkeypatch.setattr(start, 'resolve_weights', resolve_weights)
    decaying.load_from = 'facebook/sapiens-pretrain-1b'
    assert choose_start(decaying) is None and decaying.load_from == str(encoder)
    for name, words in (('other.pth', 'no such checkpoint'), ('owner/nothing', 'no network')):
        decaying.load_from = name
        with pytest.raises(UserError, match=f'load_from: .*{words}.*load_from=FILE_OR_NAME.*from_scratch=True'):
            run(decaying, tmp_path)
    monkeypatch.setenv('RANK', '1')
    decaying.load_from = 'owner/nothing'
    assert choose_start(decaying) is None, 'only the first process reads it'


def test_published_sizes_name_their_encoder():
    folder = base('.')
    named = 0
    for path in folder.glob('*/sapiens_*b_*.py'):
        config = load_config(path)
        if path.parent.name == 'pretrain':
            assert config.load_from is None
            continue
        assert config.load_from == f'facebook/sapiens-pretrain-{config.model.backbone.arch}'
        named += 1
    assert named > 25


@pytest.mark.parametrize('name', ['TopdownAffine', 'Resize', 'LoadImage'])
def test_inputs_that_lie_on_their_side_are_told(name):
    """mmpose's sizes are (W, H): pose said something of deconv_channels, parts were learnt from turned pictures."""
    model = SimpleNamespace(backbone=SimpleNamespace(img_size=(128, 96)), heads={})

    def data(*size):
        transform = TRANSFORMS.build(dict(type=name, input_size=size))
        return SimpleNamespace(pipeline=SimpleNamespace(transforms=[transform]))

    check_agreement(model, data(128, 96))
    check_agreement(model, data(64, 64))
    with pytest.raises(
        UserError, match=rf'{name} gives inputs of \(96, 128\) \(H, W\), the model takes \(128, 96\): width'
    ):
        check_agreement(model, data(96, 128))
