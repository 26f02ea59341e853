# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The encoder: reference numbers, sizes, options, and what must not change its output."""

import re

import pytest
import torch
from reference import ARCH, largest, load

from sapiens.engine.checkpoint import load_model_weights
from sapiens.errors import UserError
from sapiens.models import SapiensViT
from sapiens.models.backbones import ARCHS, resize_grid, sincos_pos_embed
from sapiens.models.backbones.transformer import DropPath, TransformerLayer
from sapiens.registry import MODELS

NUMBERS = load('backbone')
SMALL = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)


def build(**options):
    torch.manual_seed(0)
    return SapiensViT(**{'arch': SMALL, 'img_size': (64, 48), **options})


def image(height=64, width=48, batch=2, seed=1):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------- reference numbers


@pytest.mark.parametrize(('name', 'padding'), [('pad2', 2), ('corner', 0)])
def test_features_match_the_reference(name, padding):
    model = SapiensViT(ARCH, (128, 96), patch_padding=padding, out_indices=(0, 1)).eval()
    model.load_state_dict(NUMBERS['state_dict'])
    torch.testing.assert_close(model.patch_embed(NUMBERS['input']), NUMBERS[name]['patch_embed'], rtol=1e-4, atol=1e-5)
    first, final = model(NUMBERS['input'])
    torch.testing.assert_close(first, NUMBERS[name]['featmap_layer0'], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(final, NUMBERS[name]['featmap_final'], rtol=1e-4, atol=1e-5)


def test_the_padding_matters_and_is_invisible_in_the_weights():
    assert largest(NUMBERS['pad2']['featmap_final'] - NUMBERS['corner']['featmap_final']) > 0.1
    shapes = [
        {name: tuple(value.shape) for name, value in SapiensViT(ARCH, (128, 96), patch_padding=p).state_dict().items()}
        for p in (0, 2)
    ]
    assert shapes[0] == shapes[1]


def test_odd_image_size_matches_the_reference():
    model = SapiensViT(ARCH, (128, 96)).eval()
    model.load_state_dict(NUMBERS['state_dict'])
    odd = NUMBERS['corner_odd']
    torch.testing.assert_close(model(odd['input'])[0], odd['featmap'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('out_type', ['featmap', 'raw', 'cls_token'])
def test_cls_token_model_matches_the_reference(out_type):
    numbers = NUMBERS['cls128']
    model = SapiensViT(ARCH, 128, with_cls_token=True, out_type=out_type).eval()
    model.load_state_dict(numbers['state_dict'])
    torch.testing.assert_close(model(numbers['input'])[0], numbers[out_type], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('grid', [(8, 6), (16, 12)])
def test_position_embedding_resized_on_loading_matches_the_reference(grid):
    without_cls = NUMBERS['cls128']['state_dict']['pos_embed'][:, 1:]
    resized = resize_grid(without_cls, (8, 8), grid)
    torch.testing.assert_close(resized, NUMBERS[f'load_{grid[0]}x{grid[1]}'], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------- sizes and names


def test_unknown_and_incomplete_architectures():
    with pytest.raises(UserError, match="unknown arch '3b' of SapiensViT; known are tiny, small, 0.3b"):
        build(arch='3b')
    with pytest.raises(UserError, match='arch of SapiensViT lacks num_heads, num_layers'):
        build(arch=dict(embed_dims=32, feedforward_channels=64))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(patch_padding=1), 'patch_padding of SapiensViT is 0 or 2, not 1'),
        (dict(out_type='tokens'), "out_type 'tokens' of SapiensViT"),
        (dict(out_type='cls_token'), "'raw' or, with a cls token, 'cls_token'"),
        (dict(out_indices=3), 'layer 3 does not exist in a SapiensViT of 3 layers'),
        (dict(out_indices=[0, -4]), 'layer -4 does not exist'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)


def test_built_from_a_config_by_every_name():
    for name in ('SapiensViT', 'sapiens.SapiensViT'):
        assert isinstance(MODELS.build(dict(type=name, arch=SMALL, img_size=(32, 32))), SapiensViT)


@pytest.mark.parametrize('arch', ['0.3b', '0.6b', '1b', '2b'])
def test_default_size_is_the_published_task_grid(arch):
    with torch.device('meta'):
        model = SapiensViT(arch)
    assert tuple(model.pos_embed.shape) == (1, 64 * 48, ARCHS[arch]['embed_dims'])
    assert len(model.layers) == ARCHS[arch]['num_layers']


@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize('size', [(64, 48), (64, 96), (47, 33), (16, 16), (100, 160)])
def test_any_image_size(size, padding):
    model = build(patch_padding=padding).eval()
    (out,) = model(image(*size))
    grid = tuple(-(-n // 16) for n in size) if padding == 0 else tuple((n - 12) // 16 + 1 for n in size)
    assert out.shape == (2, 32, *grid) and torch.isfinite(out).all()


def test_padding_0_sees_the_same_as_an_image_padded_by_hand():
    model = build().eval()
    x = image(60, 40)
    padded = torch.nn.functional.pad(x, (0, 8, 0, 4))
    torch.testing.assert_close(model(x)[0], model(padded)[0])


def test_out_indices_and_types():
    model = build(out_indices=(0, -1, 1), with_cls_token=True, out_type='raw').eval()
    x = image()
    outputs = model(x)
    assert [tuple(out.shape) for out in outputs] == [(2, 13, 32)] * 3
    model.out_type = 'featmap'
    maps = model(x)
    for tokens, feats in zip(outputs, maps, strict=True):
        torch.testing.assert_close(feats.flatten(2).transpose(1, 2), tokens[:, 1:])
    model.out_type = 'cls_token'
    torch.testing.assert_close(model(x)[1], outputs[1][:, 0])
    # Only the last layer passes the final norm: its tokens have mean 0 and variance 1.
    torch.testing.assert_close(outputs[1].mean(-1), torch.zeros(2, 13), atol=1e-5, rtol=0)
    assert largest(outputs[0].mean(-1)) > 1e-2
    # Rows come first: the token of row 1, column 2 on a grid 3 wide is number 5.
    torch.testing.assert_close(maps[0][:, :, 1, 2], outputs[0][:, 1 + 5])


def test_layers_behind_the_last_output_are_not_run():
    model = build(out_indices=0).eval()
    model.layers[1].register_forward_hook(lambda *_: pytest.fail('layer 1 ran'))
    assert model(image())[0].shape == (2, 32, 4, 3)


def test_intermediate_layers():
    model = build(with_cls_token=True, out_indices=(0, 1, 2), out_type='raw').eval()
    x = image()
    raw = model(x)
    (last,) = model.get_intermediate_layers(x)
    torch.testing.assert_close(last, raw[2][:, 1:])
    for got, index in zip(model.get_intermediate_layers(x, [0, -1, 1]), (0, 2, 1), strict=True):
        torch.testing.assert_close(got, raw[index][:, 1:])
    assert [tuple(m.shape) for m in model.get_intermediate_layers(x, 2, reshape=True)] == [(2, 32, 4, 3)] * 2
    patches, cls = model.get_intermediate_layers(x, [1], return_class_token=True, norm=True)[0]
    torch.testing.assert_close(torch.cat([cls[:, None], patches], 1), model.ln1(raw[1]))
    with pytest.raises(UserError, match='layer 3 does not exist in a SapiensViT of 3 layers'):
        model.get_intermediate_layers(x, [3])
    with pytest.raises(UserError, match='no cls token'):
        build().get_intermediate_layers(x, return_class_token=True)


def test_a_choice_of_patches():
    model = build(with_cls_token=True, out_type='raw').eval()
    x = image()
    everything = torch.arange(12).expand(2, -1)
    torch.testing.assert_close(model(x, everything)[0], model(x)[0])
    assert model(x, everything[:, [7, 2]])[0].shape == (2, 3, 32)


def test_without_final_norm():
    plain, normed = build(final_norm=False).eval(), build().eval()
    x = image()
    feats = plain(x)[0].flatten(2).transpose(1, 2)
    expected = torch.nn.functional.layer_norm(feats, (32,), eps=1e-6)
    torch.testing.assert_close(normed(x)[0].flatten(2).transpose(1, 2), expected)


# ---------------------------------------------------------------------------------------------- position embedding


def test_sincos_position_embedding():
    embedding = sincos_pos_embed((3, 5), 16, cls_token=True)[0]
    assert embedding.shape == (16, 16) and not embedding[0].any()
    grid = embedding[1:].reshape(3, 5, 16)
    # The first half depends on the row alone, the second on the column alone.
    assert (grid[:, :, :8] == grid[:, :1, :8]).all() and (grid[:, :, 8:] == grid[:1, :, 8:]).all()
    angle = 2 * 10000 ** (-torch.arange(4) / 4)
    torch.testing.assert_close(grid[2, 0, :8], torch.cat([angle.sin(), angle.cos()]))
    torch.testing.assert_close(grid[0, 2, 8:], grid[2, 0, :8])
    with pytest.raises(ValueError, match='multiple of 4'):
        sincos_pos_embed((2, 2), 6)


def test_resizing_keeps_constants_dtype_and_non_square_grids():
    tokens = torch.full((1, 12, 8), 0.5, dtype=torch.bfloat16)
    resized = resize_grid(tokens, (4, 3), (7, 2))
    assert resized.shape == (1, 14, 8) and resized.dtype == torch.bfloat16
    torch.testing.assert_close(resized.float(), torch.full((1, 14, 8), 0.5))
    assert resize_grid(tokens, (4, 3), (4, 3)) is tokens


def test_position_embedding_trains_when_resized():
    model = build()
    model(image(32, 80))[0].square().sum().backward()
    assert float(model.pos_embed.grad.abs().sum()) > 0


# ---------------------------------------------------------------------------------------------- drop path


def test_drop_path_at_0_and_in_eval_draws_nothing():
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    for layer in (DropPath().train(), DropPath(0.7).eval()):
        state = torch.get_rng_state()
        assert layer(x) is x
        assert torch.equal(state, torch.get_rng_state())


def test_drop_path_statistics():
    torch.manual_seed(0)
    out = DropPath(0.3).train()(torch.ones(20000, 2))
    kept = out[:, 0] > 0
    assert (out[:, 0] == out[:, 1]).all(), 'whole samples are dropped'
    torch.testing.assert_close(out[kept], torch.full((int(kept.sum()), 2), 1 / 0.7))
    # 0.7 within five standard errors of the binomial
    assert abs(float(kept.float().mean()) - 0.7) < 5 * (0.3 * 0.7 / 20000) ** 0.5
    with pytest.raises(ValueError, match=r'\[0, 1\)'):
        DropPath(1.0)


def test_drop_path_rates_grow_to_the_last_layer():
    model = build(drop_path_rate=0.4)
    assert [round(layer.drop_path.p, 6) for layer in model.layers] == [0, 0.2, 0.4]
    x = image()
    torch.testing.assert_close(model.eval()(x)[0], build().eval()(x)[0])
    torch.manual_seed(1)
    assert largest(model.train()(x)[0] - build().eval()(x)[0]) > 0


# ---------------------------------------------------------------------------------------------- memory and speed


@pytest.mark.parametrize('options', [{}, dict(drop_path_rate=0.5)])
def test_activation_checkpointing_gives_equal_gradients(options):
    gradients = []
    for with_cp in (False, True, 2):
        model = build(with_cp=with_cp, **options).train()
        torch.manual_seed(3)
        model(image())[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, two, three in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, three)


def test_activation_checkpointing_recomputes_only_in_training():
    model = build(with_cp=True)
    calls = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model(image())[0].sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        model(image())
    assert len(calls) == 3


def test_bf16():
    x = image()
    model = build().eval()
    expected = model(x)[0].detach()
    with torch.autocast('cpu', torch.bfloat16):
        autocast = model(x)[0]
    assert largest(autocast - expected) < 0.1
    pure = model.bfloat16()(x.bfloat16())[0]
    assert pure.dtype == torch.bfloat16 and largest(pure.float() - expected) < 0.2


@pytest.mark.parametrize('options', [{}, dict(with_cls_token=True, out_type='raw')])
def test_compiles_into_one_graph(options):
    model = build(arch={**SMALL, 'num_layers': 1}, **options).eval()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = image()
    torch.testing.assert_close(compiled(x)[0], model(x)[0])
    # another grid: the resize of the position embedding is in the graph too
    x = image(32, 80)
    torch.testing.assert_close(compiled(x)[0], model(x)[0])


def test_compiled_training_step():
    model = build(arch={**SMALL, 'num_layers': 1}).train()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    model(image())[0].square().mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled(image())[0].square().mean().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# ---------------------------------------------------------------------------------------------- freezing


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_frozen_layers():
    everything = trainable(build())
    model = build(frozen_layers=2, with_cls_token=True, drop_path_rate=0.5)
    assert trainable(model) == {name for name in everything if name.startswith(('layers.2.', 'ln1.'))}
    # Frozen layers drop nothing, however often the model is switched to training.
    model.train()
    assert [layer.drop_path.training for layer in model.layers] == [False, False, True]
    assert trainable(build(frozen_layers=0)) == {n for n in everything if n.startswith(('layers.', 'ln1.'))}
    assert trainable(build(frozen_layers=3)) == set()
    assert trainable(build(freeze_pos_embed=True)) == everything - {'pos_embed'}


def test_frozen_layers_get_no_gradient_and_the_rest_does():
    model = build(frozen_layers=1, with_cp=True).train()
    model(image())[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize(
    ('tune', 'learns'),
    [('all', ''), ('none', 'nothing'), ('last:1', r'layers\.2\.|ln1\.'), ('lora:4', r'layers\..*\.lora_[ab]$')],
)
def test_what_of_the_encoder_trains(tune, learns):
    model = build(tune=tune, with_cls_token=True, with_cp=True)
    assert trainable(model) == {name for name, _ in model.named_parameters() if re.match(learns, name)}
    model.train()(image())[0].square().mean().backward() if tune != 'none' else None
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_adapters_begin_as_nothing_and_end_in_the_weights():
    torch.manual_seed(0)
    plain, adapted = build().eval(), build(tune='lora:4')
    report = load_model_weights(adapted, plain.state_dict())
    assert report.complete and torch.equal(adapted.eval()(image())[0], plain(image())[0])
    adapted.train()(image())[0].square().mean().backward()
    for name, parameter in adapted.named_parameters():
        if name.endswith('lora_b'):
            parameter.data -= 0.1 * parameter.grad.sign()
    expected = adapted.eval()(image())[0]
    assert largest(expected - plain(image())[0]) > 0.01
    assert load_model_weights(plain, adapted.state_dict()).complete
    torch.testing.assert_close(plain(image())[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('tune', ['last', 'last:0', 'last:9', 'lora', 'lora:-1', 'lora:x', 'heads', 'all:2', ''])
def test_unknown_presets_are_refused(tune):
    with pytest.raises(UserError, match='tune of SapiensViT is'):
        build(tune=tune)


# ---------------------------------------------------------------------------------------------- structure


def test_the_batch_does_not_mix():
    model = build().eval()
    x = image(batch=3)
    torch.testing.assert_close(model(x)[0][1:2], model(x[1:2])[0], rtol=1e-4, atol=1e-5)


def test_layer_is_the_textbook_formula():
    torch.manual_seed(0)
    layer = TransformerLayer(16, 2, 32).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    y = layer.ln1(x)
    q, k, v = layer.attn.qkv(y).reshape(2, 5, 3, 2, 8).unbind(2)
    weights = torch.einsum('bnhd,bmhd->bhnm', q, k).div(8**0.5).softmax(-1)
    expected = x + layer.attn.proj(torch.einsum('bhnm,bmhd->bnhd', weights, v).reshape(2, 5, 16))
    hidden = layer.ffn.layers[0][0](layer.ln2(expected))
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(layer(x), expected + layer.ffn.layers[1](gelu))


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match='32 channels cannot be split into 3 heads'):
        build(arch={**SMALL, 'num_heads': 3})
