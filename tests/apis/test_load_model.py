# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Models as people build them: from published files, in several threads, while files change."""

import re
import threading

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from sapiens.apis import Inferencer
from sapiens.apis.loading import build_without_memory, find_config, load_model, name_of_layout
from sapiens.apis.saving import describe_result
from sapiens.engine.adapters import to_published
from sapiens.engine.config import load_config
from sapiens.engine.convert import convert_checkpoint
from sapiens.engine.files import save_weights
from sapiens.engine.hub import weights_at_hand
from sapiens.engine.state import describe_model
from sapiens.errors import UserError
from sapiens.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


class Program(nn.Module):
    """The published names as a module that can be traced."""

    def __init__(self, state):
        super().__init__()
        for name, tensor in state.items():
            *owners, leaf = name.split('.')
            module = self
            for part in owners:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = dict(module.named_children())[part]
            module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))

    def forward(self, x):
        return x + sum(p.sum() for p in self.parameters())


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """Config and weights of one model of 308 points: as the training run left them, and as TorchScript."""
    folder = tmp_path_factory.mktemp('published')
    model = dict(
        type='HumanEstimator',
        backbone=dict(type='SapiensViT', arch=ARCH, img_size=(64, 48), patch_padding=2),
        heads=dict(pose=dict(type='PoseHead', vocabulary='keypoints308', codec=dict(type='UDPHeatmap'),
                             deconv_channels=(8, 8), conv_channels=(8,))),
    )  # fmt: skip
    Config(dict(default_scope='sapiens', model=model)).dump(str(folder / 'pose.py'))
    network = MODELS.build({**model, 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    state = to_published(network.state_dict())
    meta = {'dataset_meta': ConfigDict(dataset_name='goliath', sigmas=np.ones(308), names=ConfigDict({'0': 'nose'}))}
    torch.save({'meta': meta, 'state_dict': state}, folder / 'sapiens_0.3b_goliath_best_goliath_AP_573.pth')
    script = torch.jit.trace(Program(state), torch.zeros(1))
    script.save(str(folder / 'sapiens_0.3b_goliath_best_goliath_AP_573_torchscript.pt2'))
    return folder / 'pose.py', *sorted(folder.glob('*AP*'))


def predict(inferencer):
    image = (np.indices((96, 72)).sum(0)[..., None] * [1, 2, 3] % 256).astype(np.uint8)
    (result,) = inferencer(image, color='rgb')
    (person,) = result.keypoints
    return person


def test_the_training_file_and_the_torchscript_file_give_identical_results(published, tmp_path):
    config, trained, script = published
    results = []
    for file in (trained, script):
        loaded = load_model(config=config, weights=file)
        assert loaded.origin['repository'].startswith('facebook/sapiens-pose-0.3b')
        assert 'CC BY-NC 4.0' in loaded.origin['licence']
        results.append(predict(Inferencer(config, file, device='cpu')))
    convert_checkpoint(trained, tmp_path / 'mine.safetensors')  # a new name, the same terms
    assert (
        load_model(config=config, weights=tmp_path / 'mine.safetensors').origin['licence'] == loaded.origin['licence']
    )
    image = np.zeros((96, 72, 3), np.uint8)
    (result,) = Inferencer(config, trained, device='cpu')(image, color='rgb')
    assert describe_result(result)['weights'] == {'pose': load_model(config=config, weights=trained).origin}
    assert np.array_equal(results[0].xy, results[1].xy)
    assert np.array_equal(results[0].scores, results[1].scores)


@pytest.mark.parametrize('change', ['overwritten', 'truncated', 'replaced'])
def test_a_file_that_changes_while_an_inferencer_lives(published, tmp_path, change):
    config, trained, _ = published
    file = tmp_path / 'weights.pth'
    file.write_bytes(trained.read_bytes())
    inferencer = Inferencer(config, file, device='cpu')  # not used before the file changes
    expected = predict(Inferencer(config, trained, device='cpu'))
    with open(file, 'wb' if change == 'replaced' else 'r+b') as out:
        if change == 'truncated':
            out.truncate(10)
        else:
            out.write(bytes(trained.stat().st_size))
    assert np.array_equal(predict(inferencer).xy, expected.xy)


def test_two_inferencers_built_at_once_leave_torch_as_it_was(published):
    config, trained, script = published
    register, failures, stop = nn.Module.register_parameter, [], threading.Event()

    def build(file):
        try:
            for _ in range(4):
                loaded = load_model(config=config, weights=file)
                assert not any(t.is_meta for t in loaded.network.state_dict().values())
        except Exception as error:
            failures.append(error)

    def watch():
        while not stop.is_set():
            if nn.Linear(2, 2).weight.is_meta or nn.Module.register_parameter is not register:
                failures.append('a layer built meanwhile has no memory')

    threads = [threading.Thread(target=build, args=(file,)) for file in (trained, script, trained, script)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert not failures
    assert nn.Module.register_parameter is register and not nn.Linear(2, 2).weight.is_meta


def test_weights_by_name_are_of_the_size_that_they_were_trained_at(tmp_path):
    config = load_config(find_config('seg_28_tiny'), {'input_size': (128, 96)})
    network = build_without_memory(config)
    state = {name: torch.zeros(tensor.shape) for name, tensor in network.state_dict().items()}
    meta = describe_model(network)
    for given, name, expected in (
        (meta, None, (128, 96)),
        ({**meta, 'img_size': (64, 64)}, 'seg_28_tiny', (256, 192)),  # not what its position embedding says
        ({'img_size': 5, 'patch_size': 'a', 'tasks': 3, 'vocabularies': 'b'}, 'seg_28_tiny', (256, 192)),
        (meta, 'seg_28_tiny', (128, 96)),
    ):
        save_weights(state, {'sapiens': given}, tmp_path / 'own.safetensors')
        predictor = Inferencer(name, tmp_path / 'own.safetensors', device='cpu').predictors[0]
        assert tuple(predictor.input_size) == tuple(predictor.model.backbone.img_size) == expected
    predictor = Inferencer(str(find_config('seg_28_tiny')), tmp_path / 'own.safetensors', device='cpu').predictors[0]
    assert tuple(predictor.input_size) == (256, 192), 'a config that is given says the size'


def test_a_converted_copy_of_what_ships_needs_no_name(tmp_path):
    """Four heads on one encoder are `all` of its size."""
    copy = tmp_path / 'mine.safetensors'
    convert_checkpoint(weights_at_hand('sapiens_tiny_4tasks'), copy)
    loaded = load_model(weights=copy)
    assert list(loaded.network.heads) == ['pose', 'seg', 'depth', 'normal']


@pytest.mark.parametrize(
    ('heads', 'what'), [({}, 'no head'), ({'pose': 8}, 'one head ('), ({'pose': 8, 'seg': 3}, '2 heads (')]
)
def test_weights_of_no_shipped_config_say_what_they_hold(heads, what):
    class Made:
        cls_token = False

        def __str__(self):
            return 'encoder tiny'

    layout = Made()
    layout.heads = heads
    with pytest.raises(UserError, match=f'^mine.pth: has {re.escape(what)}.*give its config'):
        name_of_layout(layout, 'mine.pth')
