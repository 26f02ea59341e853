# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Masked autoencoder: reference numbers, what the encoder sees, masks, pictures."""

import pytest
import torch
from reference import ARCH, load

from sapiens.engine.hooks import MAEVisHook
from sapiens.errors import UserError
from sapiens.models import MAEPretrainer
from sapiens.models.pretrain import patchify, random_masking, unpatchify
from sapiens.structures import HumanDataSample

NUMBERS = load('mae')


def build(img_size=(128, 128), stem='patch', with_cp=False, encoder=None, **options):
    torch.manual_seed(0)
    return MAEPretrainer(
        dict(type='SapiensViT', arch=ARCH, img_size=img_size, stem=stem, with_cp=with_cp, **(encoder or {})),
        dict(type='MAEDecoder', embed_dims=32, num_layers=2, num_heads=4),
        **options,
    )


@pytest.fixture(scope='module')
def reference_model():
    model = build().eval()
    model.load_state_dict(NUMBERS['state_dict'])
    return model


def pictures(height=64, width=48, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


# ---------------------------------------------------------------------------------------------- reference numbers


def test_forward_matches_the_reference(reference_model):
    latent, mask, restore = reference_model.forward_encoder(NUMBERS['input'], noise=NUMBERS['noise'])
    torch.testing.assert_close(latent, NUMBERS['latent'], rtol=1e-4, atol=1e-5)
    assert torch.equal(restore, NUMBERS['restore'].long()) and torch.equal(mask, NUMBERS['mask'].float())
    pred = reference_model.forward_decoder(latent, restore, NUMBERS['input'])
    torch.testing.assert_close(pred[:, ::5], NUMBERS['pred_every5'], rtol=1e-4, atol=1e-5)


def test_target_matches_the_reference(reference_model):
    target = reference_model.target(NUMBERS['input'])
    torch.testing.assert_close(target[:, ::5], NUMBERS['target_every5'], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patchify(NUMBERS['input'], 16)[:, ::9], NUMBERS['patch_every9'], rtol=0, atol=0)


def test_loss_and_gradients_match_the_reference(reference_model):
    reference_model.zero_grad()
    loss = reference_model.loss(NUMBERS['input'], noise=NUMBERS['noise'])
    assert float(loss.detach()) == pytest.approx(NUMBERS['loss'], rel=1e-5)
    loss.backward()
    parameters = dict(reference_model.named_parameters())
    assert len(NUMBERS['grad_norms']) > 50
    for name, norm in NUMBERS['grad_norms'].items():
        assert float(parameters[name].grad.norm()) == pytest.approx(norm, rel=1e-3, abs=1e-7), name


def test_initialisation_matches_the_reference():
    model = build()
    torch.testing.assert_close(model.backbone.pos_embed, NUMBERS['init_pos_embed'], rtol=1e-4, atol=1e-6)
    expected = NUMBERS['init_decoder_pos_embed']
    torch.testing.assert_close(model.neck.decoder_pos_embed, expected, rtol=1e-4, atol=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == NUMBERS['requires_grad'][name], name
        # The bias of the patch projection starts at 0 as MAE's does; the reference keeps PyTorch's random one.
        if parameter.numel() > 100 and 'projection.bias' not in name:
            assert float(parameter.detach().std()) == pytest.approx(NUMBERS['init_std'][name], rel=0.1, abs=1e-3), name


# ---------------------------------------------------------------------------------------------- patches and masks


def test_patches_and_back():
    images = torch.arange(2 * 3 * 32 * 48).reshape(2, 3, 32, 48).float()
    patches = patchify(images, 16)
    assert patches.shape == (2, 6, 768)
    # Patch 4 is row 1, column 1 of the grid; inside it come row, column, channel.
    torch.testing.assert_close(patches[0, 4].reshape(16, 16, 3), images[0, :, 16:, 16:32].permute(1, 2, 0))
    assert torch.equal(unpatchify(patches, 16, (2, 3)), images)


@pytest.mark.parametrize('ratio', [0.0, 0.5, 0.75, 0.95, 0.999])
def test_masks(ratio):
    noise = torch.rand(3, 48, generator=torch.Generator().manual_seed(0))
    keep, restore, mask = random_masking(noise, ratio)
    count = max(1, int(48 * (1 - ratio)))
    assert keep.shape == (3, count) and (mask.sum(1) == 48 - count).all()
    assert (mask.gather(1, keep) == 0).all()
    # The kept patches are those of the smallest noise, and restore undoes the shuffling.
    assert (noise.gather(1, keep).amax(1) <= noise.masked_fill(mask == 0, 2).amin(1)).all()
    torch.testing.assert_close(restore.gather(1, keep), torch.arange(count).expand(3, -1))


@pytest.mark.parametrize('ratio', [1.0, -0.1, float('nan'), '0.75'])
def test_impossible_ratios(ratio):
    for call in (
        lambda: random_masking(torch.rand(1, 4), ratio),
        lambda: build(mask_ratio=ratio),
        lambda: MAEVisHook(mask_ratios=(0.75, ratio)),
    ):
        with pytest.raises(UserError, match='mask_ratio.* give a number of at least 0 and below 1'):
            call()


@pytest.mark.parametrize(
    ('stem', 'encoder'),
    [
        ('patch', dict(with_cls_token=False)), ('patch', dict(out_indices=[0, 1])), ('patch', dict(out_type='featmap')),
        ('conv', dict(out_stem=True)),
    ],
)  # fmt: skip
def test_an_encoder_that_gives_something_else_is_named(stem, encoder):
    with pytest.raises(UserError, match='leave out_type, out_indices, out_stem and with_cls_token out'):
        build(stem=stem, encoder=encoder)


# ---------------------------------------------------------------------------------------------- the method


@pytest.mark.parametrize(('ratio', 'visible'), [(0.75, 3), (0.5, 6), (0.95, 1)])
def test_only_visible_tokens_are_encoded(ratio, visible):
    model = build(img_size=(64, 48))
    seen = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    images = torch.randn(2, 3, 64, 48)
    latent, _, restore = model.forward_encoder(images, mask_ratio=ratio)
    assert seen == [1 + visible] * 2 and latent.shape == (2, 1 + visible, 64)
    assert model.forward_decoder(latent, restore, images).shape == (2, 12, 768)


@pytest.mark.parametrize('stem', ['patch', 'conv'])
def test_removed_pixels_do_not_reach_the_prediction(stem):
    model = build(img_size=(64, 48), stem=stem).eval()
    x, noise = torch.randn(1, 3, 64, 48), torch.rand(1, 12)
    latent, mask, restore = model.forward_encoder(x, noise=noise)
    spoilt = patchify(x, 16)
    spoilt[mask.bool()] = 1e3
    again = model.forward_encoder(unpatchify(spoilt, 16, (4, 3)), noise=noise)[0]
    torch.testing.assert_close(latent, again)


def test_the_mask_ratio_of_the_model_and_of_the_call():
    model = build(img_size=(64, 48), mask_ratio=0.5)
    x = torch.randn(1, 3, 64, 48)
    assert float(model.forward_encoder(x)[1].sum()) == 6
    assert float(model.forward_encoder(x, mask_ratio=0.75)[1].sum()) == 9
    model.mask_ratio = 0.25
    assert float(model.forward_encoder(x)[1].sum()) == 3


@pytest.mark.parametrize('size', [(64, 48), (48, 64), (32, 112), (64, 64)])
def test_sizes_other_than_the_one_trained_for(size):
    model = build(img_size=(64, 48))
    losses = model(torch.randn(2, 3, *size), mode='loss')
    assert set(losses) == {'loss'} and torch.isfinite(losses['loss'])
    losses['loss'].backward()


def test_sizes_that_are_no_multiple_of_the_patch():
    with pytest.raises(UserError, match='sides are multiples of 16, not 64 x 50: resize or crop'):
        build(img_size=(64, 48))(torch.randn(1, 3, 64, 50), mode='loss')


def test_loss_counts_removed_patches_only():
    model = build(img_size=(64, 48)).eval()
    x, noise = torch.randn(1, 3, 64, 48), torch.rand(1, 12)
    latent, mask, restore = model.forward_encoder(x, noise=noise)
    error = (model.forward_decoder(latent, restore, x) - model.target(x)).square().mean(-1)
    torch.testing.assert_close(model.loss(x, noise=noise), error[mask.bool()].mean())
    model.mask_ratio = 0.0
    assert float(model.loss(x)) == 0.0


def test_targets_are_normalised_patches_or_raw_pixels():
    x = torch.randn(1, 3, 64, 48) * 5 + 2
    target = build(img_size=(64, 48)).target(x)
    torch.testing.assert_close(target.mean(-1), torch.zeros(1, 12), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.var(-1), torch.ones(1, 12), atol=1e-4, rtol=0)
    assert torch.equal(build(img_size=(64, 48), norm_pix=False).target(x), patchify(x, 16))
    # a patch of one colour is finite
    assert torch.isfinite(build(img_size=(64, 48)).target(torch.ones(1, 3, 64, 48))).all()


def test_bf16_autocast():
    model = build(img_size=(64, 48))
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(torch.randn(2, 3, 64, 48), mode='loss')['loss']
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_activation_checkpointing_with_frozen_position():
    gradients = []
    for with_cp in (False, True):
        model = build(img_size=(64, 48), with_cp=with_cp)
        assert model.backbone.with_cp == model.neck.with_cp == with_cp
        model.loss(torch.ones(1, 3, 64, 48).cumsum(-1), noise=torch.linspace(0, 1, 12)[None]).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_it_learns():
    model = build(img_size=(32, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    images = torch.nn.functional.interpolate(torch.randn(4, 3, 4, 4), size=(32, 32), mode='bicubic')
    noise = torch.rand(4, 4)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model.loss(images, noise=noise))
        losses[-1].backward()
        optimizer.step()
    # Predicting each patch's mean scores 1.
    assert float(losses[0].detach()) > 0.9 and float(losses[-1].detach()) < 0.5


def test_modes_of_the_runner():
    model = build(img_size=(64, 48)).eval()
    data = dict(inputs=list(pictures()), data_samples=[HumanDataSample(), HumanDataSample()])
    samples = model.val_step(data)
    assert all(sample.mae_loss > 0 for sample in samples)
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 12, 768)


# ---------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize('norm_pix', [True, False])
@pytest.mark.parametrize('size', [(64, 48), (32, 64)])
def test_reconstruction_keeps_visible_patches(norm_pix, size):
    model = build(img_size=(64, 48), norm_pix=norm_pix).eval()
    images = pictures(*size)
    out = model.reconstruct(images, 0.5, torch.Generator().manual_seed(3))
    assert all(out[k].dtype == torch.uint8 and out[k].shape == images.shape for k in out)
    assert torch.equal(out['original'], images)
    original, masked, filled = (patchify(out[k], 16) for k in ('original', 'masked', 'reconstruction'))
    removed = (masked == 128).all(-1)
    assert (removed.sum(1) == removed.shape[1] // 2).all()
    assert torch.equal(masked[~removed], original[~removed])
    assert torch.equal(filled[~removed], original[~removed])
    assert not torch.equal(filled[removed], original[removed])


def test_reconstruction_is_repeatable():
    model = build(img_size=(64, 48)).eval()
    images = pictures()
    one, two, other = (model.reconstruct(images, 0.75, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one['masked'], two['masked']) and torch.equal(one['reconstruction'], two['reconstruction'])
    assert not torch.equal(one['masked'], other['masked'])


def test_a_perfect_prediction_reconstructs_the_image():
    """With normalised targets the mean and the deviation of the patch come back."""
    model = build(img_size=(64, 48)).eval()
    images = pictures()
    normalised = model.data_preprocessor({'inputs': list(images)})['inputs']
    model.neck.forward = lambda latent, restore, grid: model.target(normalised)
    out = model.reconstruct(images, 0.75)
    assert int((out['reconstruction'].int() - images.int()).abs().max()) <= 1
