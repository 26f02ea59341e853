# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Checkpoint files: what is read, what is refused, and what counts as covered."""

import gzip
import math
import os
import tarfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import nn

from sapiens.engine.checkpoint import (
    CheckpointError,
    infer_grid,
    load_model_weights,
    read_checkpoint,
    resize_pos_embed,
)
from sapiens.engine.files import load_plain, save_plain


class Encoder(nn.Module):
    def __init__(self, grid=(4, 3), cls=False, channels=8):
        super().__init__()
        self.patch_grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels)) if cls else None
        self.pos_embed = nn.Parameter(torch.randn(1, math.prod(grid) + int(cls), channels))
        self.layers = nn.ModuleList([nn.Linear(channels, channels)])


class Model(nn.Module):
    def __init__(self, points=5, **kwargs):
        super().__init__()
        self.backbone = Encoder(**kwargs)
        self.heads = nn.ModuleDict({'pose': nn.ModuleDict({'final_layer': nn.Conv2d(8, points, 1)})})


def smooth_embedding(grid, channels=32, extra=0):
    """A sin-cos embedding, the first half of the channels encoding the row."""
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    freq = 10000.0 ** (-np.arange(channels // 4) / (channels // 4))
    code = [f(axis[..., None] * freq) for axis in (rows, columns) for f in (np.sin, np.cos)]
    patches = torch.from_numpy(np.concatenate(code, -1)).float().reshape(1, -1, channels)
    return torch.cat([torch.zeros(1, extra, channels), patches], 1)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Getattr:
    def __reduce__(self):
        return getattr, (np.ndarray, 'tofile')


# ---------------------------------------------------------------- files


@pytest.mark.parametrize('kind', ['pickle', 'zip', 'legacy', 'getattr'])
def test_malicious_pickle_is_refused_and_runs_nothing(tmp_path, kind):
    import pickle

    file, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    content = {'state_dict': {'a': torch.ones(1)}, 'x': Getattr() if kind == 'getattr' else Evil(trace)}
    if kind == 'pickle':
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind != 'legacy')
    with pytest.raises(CheckpointError, match='evil.pth: refused'):
        read_checkpoint(file)
    assert not trace.exists()


@pytest.mark.parametrize(
    'kind', ['missing', 'text', 'truncated', 'empty', 'folder', 'lfs', 'no_weights', 'url', 'gzip', 'tar']
)
def test_bad_file_is_one_line_that_names_it(tmp_path, kind):
    good, file = tmp_path / 'weights.pth', tmp_path / 'bad.pth'
    torch.save({'a': torch.ones(100)}, good)
    if kind == 'text':
        file.write_text('this is no checkpoint')
    elif kind == 'truncated':
        file.write_bytes(good.read_bytes()[:300])
    elif kind == 'empty':
        file.touch()
    elif kind == 'folder':
        file.mkdir()
    elif kind == 'lfs':
        file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n')
    elif kind == 'no_weights':
        torch.save({'meta': {'epoch': 3}}, file)
    elif kind == 'gzip':
        file.write_bytes(gzip.compress(good.read_bytes()))
    elif kind == 'tar':
        with tarfile.open(file, 'w') as archive:
            archive.add(good)
    elif kind == 'missing':
        file = tmp_path / 'weigths.pth'
    elif kind == 'url':
        file = 'https://example.com/bad.pth'
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(file)
    message = str(error.value)
    assert '\n' not in message and ('bad.pth' in message or 'weigths.pth' in message)
    if kind == 'missing':
        assert 'weights.pth' in message
    if kind == 'lfs':
        assert 'git lfs pull' in message
    if kind in ('gzip', 'tar'):
        assert 'unpack it' in message
    if kind == 'no_weights':
        assert "it has 'meta'" in message


def test_truncated_safetensors(tmp_path):
    file = tmp_path / 'a.safetensors'
    save_file({'a': torch.ones(100)}, str(file), metadata={'sapiens': '{"patch_padding": 2}'})
    state, meta = read_checkpoint(file)
    assert state['a'].sum() == 100 and meta == {'sapiens': {'patch_padding': 2}}
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match='a.safetensors'):
        read_checkpoint(file)


def test_files_of_mmengine_are_read_as_plain_data(tmp_path):
    history = HistoryBuffer()
    history.update(1.5)
    history.update(2, count=3)
    file = tmp_path / 'mmengine.pth'
    meta = {'score': np.float64(3), 'sigmas': np.arange(3, dtype=np.float32)}
    torch.save({'state_dict': {'a': torch.ones(2)}, 'meta': meta, 'message_hub': {'loss': history}}, file)
    state, meta = read_checkpoint(file)
    assert list(state) == ['a'] and meta == {'score': 3.0, 'sigmas': [0.0, 1.0, 2.0]}
    stand_in = load_plain(file)['message_hub']['loss']
    assert type(stand_in) is not HistoryBuffer
    assert stand_in.log_history.tolist() == [1.5, 2.0] and stand_in.count_history.tolist() == [1.0, 3.0]


def test_allowing_plain_data_lasts_for_one_load(tmp_path):
    before = set(map(id, torch.serialization.get_safe_globals()))
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    load_plain(tmp_path / 'a.pth')
    assert set(map(id, torch.serialization.get_safe_globals())) == before


def test_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / 'a.pth'
    save_plain(
        {'state_dict': {'a': torch.ones(2)}, 'meta': {'x': np.float32(2), 'y': Encoder, 'z': np.float64(3)}}, file
    )
    content = torch.load(file, weights_only=True)
    assert content['meta']['x'] == 2.0 and isinstance(content['meta']['y'], str)

    def half(content, file):
        file.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', half)
    with pytest.raises(OSError):
        save_plain({'state_dict': {}}, file)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']
    assert torch.load(file, weights_only=True)['state_dict']['a'].sum() == 2


# ---------------------------------------------------------------- position embeddings


def test_resize_of_equal_grid_is_the_identity_and_extra_rows_come_and_go():
    x = torch.randn(1, 1 + 12, 8)
    assert torch.equal(resize_pos_embed(x, (4, 3), (4, 3), 1, 1), x)
    assert torch.equal(resize_pos_embed(x, (4, 3), (4, 3), 1, 0), x[:, 1:])
    grown = resize_pos_embed(x[:, 1:], (4, 3), (4, 3), 0, 1)
    assert grown[:, 0].abs().sum() == 0 and torch.equal(grown[:, 1:], x[:, 1:])
    with pytest.raises(CheckpointError, match='does not fit a grid of 5x3'):
        resize_pos_embed(x, (5, 3), (4, 3), 1, 0)


def test_resize_keeps_rows_and_columns_apart():
    # A plane that grows along the rows only must stay constant along the columns on any grid.
    rows = torch.arange(6.0)[:, None].expand(6, 4).reshape(1, 24, 1)
    out = resize_pos_embed(rows, (6, 4), (9, 5)).reshape(9, 5)
    assert torch.allclose(out, out[:, :1].expand(-1, 5), atol=1e-5)
    assert (out[:, 0].diff() > 0).all()


@pytest.mark.parametrize('grid', [(64, 48), (48, 64), (64, 64), (32, 24), (20, 10)])
@pytest.mark.parametrize('target', [(64, 48), (48, 64), (32, 32), (20, 10), (10, 20)])
def test_grid_is_found_without_being_told(grid, target):
    known = {(64, 48), (48, 64), (64, 64), (32, 24)}
    patches = smooth_embedding(grid)
    ratio = grid[0] / grid[1]
    if grid in known or ratio == target[0] / target[1]:
        assert infer_grid(patches, target) == grid
    else:
        # 200 patches are neither square nor 4:3: 20x10 is found only by a model of this aspect.
        if target == (10, 20):
            assert infer_grid(patches, target) == (10, 20)
        else:
            with pytest.raises(CheckpointError, match='patch_grid'):
                infer_grid(patches, target)


# ---------------------------------------------------------------- coverage


def test_cls_square_to_no_cls_portrait(tmp_path):
    source = Model(grid=(4, 4), cls=True)
    save_plain({'state_dict': source.state_dict()}, tmp_path / 'a.pth')
    model = Model(grid=(8, 6))
    report = load_model_weights(model, tmp_path / 'a.pth')
    want = resize_pos_embed(source.backbone.pos_embed.data, (4, 4), (8, 6), 1, 0)
    assert torch.equal(model.backbone.pos_embed.data, want)
    assert torch.equal(model.backbone.layers[0].weight, source.backbone.layers[0].weight)
    assert report.resized == {'backbone.pos_embed': ((4, 4), (8, 6))} and report.complete
    assert report.unexpected == ['backbone.cls_token']
    assert report.by_module()['backbone'] == {'loaded': 3, 'resized': 1, 'unexpected': 1}
    assert 'grid 4x4 resized to 8x6' in str(report)


def test_the_grid_in_the_meta_wins(tmp_path):
    source = Model(grid=(2, 8))
    save_plain({'state_dict': source.state_dict(), 'meta': {'sapiens': {'patch_grid': [2, 8]}}}, tmp_path / 'a.pth')
    report = load_model_weights(Model(grid=(4, 4)), tmp_path / 'a.pth')
    assert report.resized['backbone.pos_embed'] == ((2, 8), (4, 4))


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_wrapper_prefixes_are_removed(wrapper):
    source, model = Model(), Model()
    load_model_weights(model, {wrapper + k: v for k, v in source.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))


def test_encoder_only_file_and_bare_encoder():
    source, model = Encoder(), Model()
    report = load_model_weights(model, source.state_dict(), allow_partial=True)
    assert torch.equal(model.backbone.pos_embed, source.pos_embed)
    assert sorted(report.missing) == ['heads.pose.final_layer.bias', 'heads.pose.final_layer.weight']
    encoder = Encoder()
    load_model_weights(encoder, model.state_dict())
    assert torch.equal(encoder.pos_embed, source.pos_embed)


def test_a_missing_head_needs_leave():
    with pytest.raises(CheckpointError, match="2 of 2 parameters of heads.pose are missing.*'heads.pose.final_layer"):
        load_model_weights(Model(), Encoder().state_dict())


@pytest.mark.parametrize('allow', [False, True])
def test_a_hole_in_the_encoder_is_an_error_and_changes_nothing(allow):
    model, state = Model(), Model().state_dict()
    del state['backbone.layers.0.weight']
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="of backbone are missing: expected 'backbone.layers.0.weight'"):
        load_model_weights(model, state, allow_partial=allow)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize('allow', [False, True])
def test_a_head_that_does_not_fit_is_an_error_unless_skipped(allow):
    model, state = Model(points=7), Model(points=5).state_dict()
    with pytest.raises(CheckpointError, match=r'expects \[7, 8, 1, 1\], the file has \[5, 8, 1, 1\].*load_skip'):
        load_model_weights(model, state, allow_partial=allow)
    for skip in (['heads.pose.final_layer.'], 'heads.pose.final_layer.'):
        report = load_model_weights(model, state, allow_partial=allow, skip=skip)
        assert report.skipped == [f'heads.pose.final_layer.{name}' for name in ('weight', 'bias')]
        assert not report.complete


def test_half_a_head_is_an_error_even_when_partial():
    state = Model().state_dict()
    del state['heads.pose.final_layer.bias']
    with pytest.raises(CheckpointError, match='1 of 2 parameters of heads.pose are missing'):
        load_model_weights(Model(), state, allow_partial=True)


def test_weights_of_another_model():
    with pytest.raises(CheckpointError, match='none of its parameters belongs to this model'):
        load_model_weights(Model(), {'encoder.block': torch.ones(2)}, allow_partial=True)
    with pytest.raises(CheckpointError, match=r'expects \[8, 8\], the file has \[16, 16\].*same architecture'):
        load_model_weights(Encoder(), {**Encoder(channels=16).state_dict(), 'pos_embed': torch.zeros(1, 12, 8)})
