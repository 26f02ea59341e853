# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files as their real writers leave them, in every container and wrapper, read without running anything."""

import os
import pickle
import threading
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch import nn

from sapiens.engine.adapters import to_published
from sapiens.engine.checkpoint import CheckpointError, load_model_weights, read_checkpoint
from sapiens.engine.convert import convert_checkpoint
from sapiens.engine.describe import describe_file
from sapiens.engine.files import check_file, load_plain, save_plain
from sapiens.registry import MODELS

TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
MODEL = dict(
    type='sapiens.HumanEstimator',
    _scope_='sapiens',
    backbone=dict(type='SapiensViT', arch=TINY, img_size=(64, 48), patch_padding=2),
    heads=dict(
        pose=dict(type='PoseHead', vocabulary='keypoints308', codec=dict(type='UDPHeatmap'), deconv_channels=(8, 8),
                  conv_channels=(8,))
    ),
)  # fmt: skip


def estimator(seed=1):
    model = MODELS.build({**MODEL})
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator)
    return model


class Tree(nn.Module):
    """A module with the given parameters, so that programs with the published names can be written."""

    def __init__(self, state):
        super().__init__()
        for name, tensor in state.items():
            owner, _, leaf = name.rpartition('.')
            module = self
            for part in filter(None, owner.split('.')):
                if not hasattr(module, part):
                    module.add_module(part, Tree({}))
                module = getattr(module, part)
            module.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=False))

    def forward(self, x):
        return x + sum(p.float().sum() for p in self.parameters())


def same(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.fixture(scope='module')
def weights():
    return {k: v.clone() for k, v in to_published(estimator().state_dict()).items()}


class Data(torch.utils.data.Dataset):
    """One sample, with the kinds of metadata that published pose data have."""

    metainfo = ConfigDict(
        dataset_name='goliath', keypoint_id2name={0: 'nose'}, sigmas=np.full(308, 0.1), upper=ConfigDict(ids=[1, 2]),
        colors=np.zeros((308, 3), np.uint8), flip=np.arange(308).reshape(2, 154).T, score=np.float32(2),
    )  # fmt: skip

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.ones(1, 3)


def train_with_mmengine(folder, state):
    """A checkpoint as mmengine's own runner and checkpoint hook write it, message hub and optimiser included."""
    from mmengine.model import BaseModel

    from sapiens.openmmlab import prepare_torchvision

    prepare_torchvision()  # the runner logs its version

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            for name, child in Tree(state).named_children():
                self.add_module(name, child.requires_grad_(False))
            self.extra = nn.Parameter(torch.ones(1))

        def forward(self, inputs=None, data_samples=None, mode='loss'):
            return {'loss': self.extra.square().sum()}

        def train_step(self, data, optim_wrapper):
            losses = self.forward()
            optim_wrapper.update_params(losses['loss'])
            return losses

    runner = Runner(
        Model(), str(folder), default_scope='mmengine', log_level='ERROR',
        experiment_name=str(folder).replace(os.sep, '_'),  # one of its own: runs of one name share their logged scalars
        train_dataloader=torch.utils.data.DataLoader(Data()), train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.0)),
        param_scheduler=dict(type='LinearLR', start_factor=0.5, end=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
    )  # fmt: skip
    runner.train()
    return folder / 'epoch_2.pth'


def write_export_of_old(program, path):
    """The layout of torch.export before it wrote tables: a zip of `torch.save` zips."""
    import io

    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('serialized_exported_program.json', '{}')
        for name, content in (('state_dict', program.state_dict), ('constants', {})):
            buffer = io.BytesIO()
            torch.save(dict(content), buffer)
            archive.writestr(f'serialized_{name}.pt', buffer.getvalue())
        archive.writestr('version', '5.1')


def write(kind, state, path):
    program = Tree(state)
    example = torch.zeros(1)
    if kind == 'mmengine training run':
        os.replace(train_with_mmengine(path.parent / f'run_{path.stem}', state), path)
    elif kind == 'TorchScript':
        torch.jit.trace(program, example).save(str(path))
    elif kind == 'torch.export':
        torch.export.save(torch.export.export(program, (example,)), path)
    elif kind == 'torch.export of old':
        write_export_of_old(torch.export.export(program, (example,)), path)
    elif kind == 'old torch.save':
        torch.save({'state_dict': state}, path, _use_new_zipfile_serialization=False)
    elif kind == 'safetensors':
        save_file(state, str(path))
    elif kind == 'module as an object':
        torch.save(program, path)
    else:
        torch.save({'state_dict': state}, path)


KINDS = {
    'torch.save': '.pth', 'mmengine training run': '.pth', 'old torch.save': '.pth', 'safetensors': '.safetensors',
    'TorchScript': '_torchscript.pt2', 'torch.export': '_bfloat16.pt2', 'torch.export of old': '_bfloat16.pt2',
    'module as an object': '.pt',
}  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_every_container_gives_the_same_weights(tmp_path, weights, kind, dtype):
    state = {name: tensor.to(dtype) for name, tensor in weights.items()}
    path = tmp_path / f'sapiens_0.3b_goliath_best{KINDS[kind]}'
    write(kind, state, path)
    found, meta = read_checkpoint(path)
    found.pop('extra', None)
    assert same(found, state)
    if kind == 'mmengine training run':
        note = meta['dataset_meta']
        assert type(note) is dict and type(note['upper']) is dict and note['upper'] == {'ids': [1, 2]}
        assert note['sigmas'] == [0.1] * 308 and note['score'] == 2.0 and note['colors'][3] == [0, 0, 0]
        assert note['flip'] == Data.metainfo.flip.tolist() and note['keypoint_id2name'] == {0: 'nose'}
        content = load_plain(path)
        assert content['param_schedulers'] and content['optimizer']['param_groups']
        assert content['message_hub']['log_scalars']['train/loss'].log_history.tolist() == [1.0, 1.0]
    model = estimator(seed=2)
    assert load_model_weights(model, path).complete
    assert same(to_published(model.state_dict()), {k: v.float() for k, v in state.items()})


@pytest.mark.parametrize('suffix', ['.pth', '.pt2', '.safetensors', ''])
def test_the_suffix_does_not_matter(tmp_path, weights, suffix):
    for kind in ('torch.save', 'safetensors', 'TorchScript'):
        write(kind, weights, tmp_path / f'file{suffix}')
        assert same(read_checkpoint(tmp_path / f'file{suffix}')[0], weights)
    (tmp_path / f'file{suffix}').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n')
    with pytest.raises(CheckpointError, match='Git LFS pointer'):
        read_checkpoint(tmp_path / f'file{suffix}')


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_is_described_without_reading_its_numbers(tmp_path, weights, kind, monkeypatch):
    path = tmp_path / f'file{KINDS[kind]}'
    write(kind, weights, path)
    monkeypatch.setattr('sapiens.engine.containers.Content.fill', None)
    text = describe_file(path)
    assert 'encoder 32 x 2 layers, pose (308, keypoints308)' in text
    assert str(path) in text and 'M float32' in text
    assert ('beside the weights: message_hub, optimizer, param_schedulers' in text) == (kind == 'mmengine training run')


def test_a_checkpoint_in_parts_is_given_wherever_one_is_asked_for(tmp_path, weights):
    from torch.distributed.checkpoint import save

    folder = tmp_path / 'iter_3.dcp'
    save({'state_dict': weights}, checkpoint_id=str(folder), no_dist=True)
    save_plain({'meta': {'iter': 3}}, folder / 'training.pth')
    check_file(folder)  # what `sapiens test` asks first
    assert load_model_weights(MODELS.build(MODEL), folder).complete
    text = describe_file(folder)
    assert 'in parts' in text and 'encoder 32 x 2 layers, pose (308, keypoints308)' in text and 'metadata: iter' in text
    (folder / '.metadata').unlink()
    for look in (check_file, read_checkpoint, describe_file):
        with pytest.raises(CheckpointError, match='is a folder|not complete'):
            look(folder)


# ---------------------------------------------------------------- hostile files


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(trace):
    return {
        'os.system': Call(os.system, f'touch {trace}'),
        'os.mkdir': Call(os.mkdir, str(trace)),
        'eval': Call(eval, f"open({str(trace)!r}, 'w')"),
        'getattr': Call(getattr, np.ndarray, 'tofile'),
        'numpy': Call(np.fromfile, str(trace)),
        'torch': Call(torch.hub.load, str(trace)),
        'import': Call(__import__, 'antigravity'),
    }


@pytest.mark.parametrize('kind', ['os.system', 'os.mkdir', 'eval', 'getattr', 'numpy', 'torch', 'import'])
@pytest.mark.parametrize('container', ['torch.save', 'old torch.save', 'pickle', 'TorchScript', 'torch.export of old'])
def test_a_pickle_that_calls_something_is_refused_and_runs_nothing(tmp_path, weights, kind, container):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    content = {'state_dict': {'a': torch.ones(1)}, 'x': hostile(trace)[kind]}
    if container == 'pickle':
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif container in ('torch.save', 'old torch.save'):
        torch.save(content, path, _use_new_zipfile_serialization=container == 'torch.save')
    else:
        write(container, weights, tmp_path / 'good.pt2')
        name = 'good/data.pkl' if container == 'TorchScript' else 'serialized_state_dict.pt'
        with zipfile.ZipFile(tmp_path / 'good.pt2') as good, zipfile.ZipFile(path, 'w') as bad:
            for info in good.infolist():
                data = good.read(info)
                if info.filename == name and container == 'TorchScript':
                    data = pickle.dumps(content['x'], protocol=2)
                elif info.filename == name:
                    torch.save(content, tmp_path / 'inner')
                    data = (tmp_path / 'inner').read_bytes()
                bad.writestr(info.filename, data)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CheckpointError, match=r'evil.pth: (refused|a pickle|damaged)'):
        read_checkpoint(path)
    assert sorted(os.listdir(tmp_path)) == before


def test_state_of_a_pickle_cannot_change_what_unpickles_it(tmp_path):
    """The opcode that sets the state of an object must not reach our own functions and classes."""
    for target in (b'ctorch._utils\n_rebuild_tensor_v2\n', b'cmmengine.config\nConfigDict\n', b'cbuiltins\ndict\n',
                   b'cx\nY\n', b'cnumpy\ndtype\n', b'ctorch\nfloat32\n'):  # fmt: skip
        for key in (b'__setstate__', b'__new__', b'__defaults__', b'__call__', b'called'):
            evil = b'\x80\x02' + target + b'N}X' + len(key).to_bytes(4, 'little') + key + b'K\x01s\x86b.'
            path = tmp_path / 'a.pth'
            with zipfile.ZipFile(path, 'w') as archive:
                archive.writestr('a/data.pkl', evil)
                archive.writestr('a/version', '3')
            with pytest.raises(CheckpointError):
                read_checkpoint(path)
    torch.save({'state_dict': {'a': torch.ones(3)}, 'meta': ConfigDict(b=np.arange(3))}, path)
    state, meta = read_checkpoint(path)
    assert torch.equal(state['a'], torch.ones(3)) and meta == {'b': [0, 1, 2]}


def test_bombs(tmp_path):
    path = tmp_path / 'a.pth'
    laughs = ['ha'] * 10
    for _ in range(60):
        laughs = [laughs] * 10
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {'x': laughs}}, path)
    assert list(read_checkpoint(path)[0]) == ['a']
    deep = []
    for _ in range(400):
        deep = [deep]
    loop = {}
    loop['loop'] = loop
    for content in (deep, loop):
        torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {'x': content}}, path)
        try:
            assert list(read_checkpoint(path)[0]) == ['a']
        except CheckpointError as error:
            assert '\n' not in str(error)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', bytes(1 << 26))
    with pytest.raises(CheckpointError, match='compressed zip'):
        read_checkpoint(path)


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files_of_every_container_are_one_line(tmp_path, weights, kind):
    path = tmp_path / f'good{KINDS[kind]}'
    write(kind, weights, path)
    whole = bytearray(path.read_bytes())
    bad = tmp_path / f'bad{KINDS[kind]}'
    generator = np.random.default_rng(0)
    for attempt in range(40):
        data = bytearray(whole)
        if attempt < 15:
            del data[int(generator.integers(1, len(data))) :]
        else:
            for at in generator.integers(0, min(len(data), 4000 if attempt % 2 else len(data)), 20):
                data[at] = generator.integers(256)
        bad.write_bytes(data)
        try:
            state, _ = read_checkpoint(bad)
            assert all(isinstance(t, torch.Tensor) for t in state.values())
        except CheckpointError as error:
            assert str(error).startswith(str(bad)) and '\n' not in str(error)


def test_programs_without_names_say_what_they_are(tmp_path, weights):
    frozen = torch.jit.freeze(torch.jit.trace(Tree(weights).eval(), torch.zeros(1)))
    frozen.save(str(tmp_path / 'frozen.pt2'))
    with pytest.raises(CheckpointError, match='frozen TorchScript.*take the .pth'):
        read_checkpoint(tmp_path / 'frozen.pt2')
    np.savez(tmp_path / 'arrays.npz', a=np.ones(3))
    with pytest.raises(CheckpointError, match="a zip that holds no weights .but e.g. 'a.npy'"):
        read_checkpoint(tmp_path / 'arrays.npz')


# ---------------------------------------------------------------- wrappers


def wrapped(state):
    """What people's programs make of a state dict: (content of the file, names that are no part of the model)."""

    def rename(change):
        return {change(name): tensor for name, tensor in state.items()}

    def inside(name, wrapper):
        return name.replace('layers.0.', f'layers.0.{wrapper}.', 1).replace(
            'ffn.layers.0.0', f'ffn.layers.0.{wrapper}.0'
        )

    extra = {'criterion.weight': torch.ones(3)}
    return {
        'ddp': {'state_dict': rename(lambda n: f'module.{n}')},
        'compiled': {'state_dict': rename(lambda n: f'_orig_mod.{n}')},
        'fsdp': {'state_dict': rename(lambda n: f'_fsdp_wrapped_module.{inside(n, "_fsdp_wrapped_module")}')},
        'activation checkpoints': {'state_dict': rename(lambda n: inside(n, '_checkpoint_wrapped_module'))},
        'separate ddp': {'state_dict': rename(lambda n: n.replace('.', '.module.', 1))},
        'lightning': {'state_dict': rename(lambda n: f'model.{n}'), 'hyper_parameters': {'lr': 1.0}},
        'lightning with a loss': {'state_dict': rename(lambda n: f'model.{n}') | extra},
        'lightning, other name': {'state_dict': rename(lambda n: f'net.{n}')},
        'lightning, deep name': {'state_dict': rename(lambda n: f'pose_model.model._orig_mod.{n}') | extra},
        'deepspeed': {'module': state, 'dp_world_size': 1, 'global_steps': 3},
        'tutorial': {'epoch': 3, 'model_state_dict': state, 'optimizer_state_dict': {}, 'loss': torch.ones(1)},
        'nested': {'model': {'state_dict': state}, 'epoch': 2},
        'plain': state,
        'name of a program': {'net_g': state, 'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}}},
        'module in a dict': {'checkpoint': Tree(state), 'epoch': 2},
    }  # fmt: skip


@pytest.mark.parametrize('kind', wrapped({}))
def test_wrappers_are_found_and_stripped(tmp_path, weights, kind):
    torch.save(wrapped(weights)[kind], tmp_path / 'a.pth')
    model = estimator(seed=2)
    report = load_model_weights(model, tmp_path / 'a.pth')
    assert report.complete and same(to_published(model.state_dict()), weights)
    assert report.unexpected == (['criterion.weight'] if 'criterion.weight' in str(wrapped(weights)[kind]) else [])
    text = convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.safetensors')
    assert same(to_published(read_checkpoint(tmp_path / 'b.safetensors')[0]), weights)
    assert ('criterion.weight' in text) == bool(report.unexpected)


def test_what_cannot_be_told_is_named_and_never_converted(tmp_path, weights):
    odd = {name.replace('layers.0.', 'layers.0.my_wrapper.', 1): tensor for name, tensor in weights.items()}
    torch.save(odd, tmp_path / 'a.pth')
    for act in (lambda: convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth'),
                lambda: load_model_weights(estimator(), tmp_path / 'a.pth')):  # fmt: skip
        with pytest.raises(CheckpointError, match='my_wrapper'):
            act()
    torch.save({'net_g': weights, 'net_ema': weights}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="a.pth: holds several models, under 'net_g' and 'net_ema'"):
        convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth')
    two = {f'{side}.{name}': tensor for side in ('student', 'teacher_ema') for name, tensor in weights.items()}
    torch.save(two, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="several models, under 'student.' and 'teacher_ema.'"):
        convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert not (tmp_path / 'b.pth').exists()


# ---------------------------------------------------------------- the life of a file


@pytest.mark.parametrize('kind', ['torch.save', 'safetensors', 'TorchScript'])
def test_a_file_that_changes_after_it_was_read_changes_nothing(tmp_path, weights, kind):
    path = tmp_path / 'a.pth'
    write(kind, weights, path)
    state, _ = read_checkpoint(path)
    size = path.stat().st_size
    with open(path, 'r+b') as file:  # in place, as `cp` and a download do
        file.write(bytes(size))
        file.truncate(0)
    path.unlink()
    assert same(state, weights)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, weights, value, dtype):
    state = {name: tensor.to(dtype, copy=True) for name, tensor in weights.items()}
    state['backbone.layers.1.attn.qkv.weight'][3, 4] = value
    torch.save(state, tmp_path / 'a.pth')
    model = estimator()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for act in (lambda: load_model_weights(model, tmp_path / 'a.pth'),
                lambda: convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth')):  # fmt: skip
        with pytest.raises(CheckpointError, match=r'a.pth: backbone\.layers\.1\.attn\.qkv\.weight holds NaN'):
            act()
    assert same(model.state_dict(), before) and not (tmp_path / 'b.pth').exists()


def test_a_download_that_reserved_its_space_is_refused(tmp_path, weights):
    save_file(weights, str(tmp_path / 'a.safetensors'))
    content = (tmp_path / 'a.safetensors').read_bytes()
    written = len(content) * 3 // 4
    (tmp_path / 'a.safetensors').write_bytes(content[:written] + bytes(len(content) - written))
    for act in (lambda: load_model_weights(estimator(), tmp_path / 'a.safetensors'),
                lambda: convert_checkpoint(tmp_path / 'a.safetensors', tmp_path / 'b.pth')):  # fmt: skip
        with pytest.raises(CheckpointError, match=r'a.safetensors: \S+\.weight is all zeros.*get it again'):
            act()


def test_quantised_weights_are_refused(tmp_path, weights):
    torch.save({name: (tensor * 100).to(torch.int8) for name, tensor in weights.items()}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='a.pth: backbone.pos_embed holds int8, as quantised files do'):
        load_model_weights(estimator(), tmp_path / 'a.pth')


@pytest.mark.parametrize('stem, suffix', [('model', '.safetensors'), ('pytorch_model', '.bin')])
def test_files_that_hold_a_model_together_are_read_together(tmp_path, weights, stem, suffix):
    parts = [tmp_path / f'{stem}-{number:05}-of-00003{suffix}' for number in (1, 2, 3)]
    for i, part in enumerate(parts):
        state = dict(list(weights.items())[i::3])
        save_file(state, str(part)) if suffix == '.safetensors' else torch.save(state, part)
    index = tmp_path / f'{stem}{suffix}.index.json'
    index.write_text('{"metadata": {}, "weight_map": {}}')
    for file in (*parts, index):
        assert same(read_checkpoint(file)[0], weights)
        assert 'checkpoint in parts' in describe_file(file) and f'{len(weights)} tensors' in describe_file(file)
    with pytest.raises(CheckpointError, match=rf'is a folder.* give a file in it, e.g. .*{parts[2].name}'):
        read_checkpoint(tmp_path)
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=f'{parts[1].name}: is not there, but 3 files hold this model'):
        read_checkpoint(parts[0])


def test_large_finite_weights_are_no_infinity():
    model = estimator()
    state = model.state_dict()
    state['backbone.layers.1.attn.qkv.weight'] = torch.full_like(state['backbone.layers.1.attn.qkv.weight'], 3e38)
    assert load_model_weights(model, state).complete


def test_reading_in_threads(tmp_path, weights):
    """No thread sees what another one allows or changes."""
    torch.save({'state_dict': weights, 'meta': {'dataset_meta': Data.metainfo}}, tmp_path / 'a.pth')
    failures = []

    def read():
        try:
            for _ in range(10):
                assert same(read_checkpoint(tmp_path / 'a.pth')[0], weights)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
