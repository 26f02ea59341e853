# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Masked autoencoder (He et al. 2022; paper, section 3.2): the whole method.

Patches are shuffled by sorting random noise; the encoder sees the first ``1 - mask_ratio`` of them, the decoder
all, with a mask token where one was removed. The loss is the squared error on removed patches, each patch of the
target normalised by its own mean and variance.
"""

from __future__ import annotations

import math

import torch
from mmengine.model import BaseModel, BaseModule
from torch import nn

from ...errors import UserError
from ...registry import MODELS
from ...utils.full_precision import full_precision
from ...utils.numbers import check_number
from ...utils.on_device import to_host, wait
from ..backbones import TransformerLayer, resize_grid, sincos_pos_embed
from ..backbones.transformer import init_transformer_weights, run_layer
from ..randomness import rand_per_sample


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut images into patches, rows first; within a patch the order is row, column, channel.

    Args:
        images: ``(B, 3, H, W)``; H and W are multiples of the patch.
        patch_size: Side p of a patch.

    Returns:
        ``(B, N, 3 p^2)``.
    """
    batch, channels, height, width = images.shape
    h, w = height // patch_size, width // patch_size
    x = images.reshape(batch, channels, h, patch_size, w, patch_size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, h * w, patch_size**2 * channels)


def unpatchify(patches: torch.Tensor, patch_size: int, grid: tuple[int, int]) -> torch.Tensor:
    """Inverse of `patchify`: ``(B, h * w, 3 p^2)`` -> ``(B, 3, h p, w p)``."""
    x = patches.reshape(patches.shape[0], *grid, patch_size, patch_size, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(patches.shape[0], -1, grid[0] * patch_size, grid[1] * patch_size)


def random_masking(noise: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose the patches to keep: those of the smallest noise.

    Args:
        noise: ``(B, N)`` random numbers.
        mask_ratio: Part of the patches to remove, in [0, 1); at least one patch is kept.

    Returns:
        ``ids_keep`` (B, n) int64, kept patches in shuffled order; ``ids_restore`` (B, N) int64, the place of each
        patch in the shuffled order; ``mask`` (B, N) float32, 1 = removed.
    """
    check_number('mask_ratio', mask_ratio, 0, 1, below=True)
    total = noise.shape[1]
    kept = max(1, int(total * (1 - mask_ratio)))
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    return ids_shuffle[:, :kept], ids_restore, (ids_restore >= kept).float()


@MODELS.register_module()
class MAEDecoder(BaseModule):
    """Light transformer that predicts the pixels of every patch.

    Args:
        in_channels: Width of the encoder.
        patch_grid: ``(h, w)`` that the frozen sin-cos position embedding is made for.
        patch_size: Side of a patch.
        embed_dims, num_layers, num_heads: Size of the decoder (paper: 512, 8, 16).
        with_cp: Activation checkpointing, as of the encoder.
    """

    def __init__(
        self,
        in_channels: int,
        patch_grid: tuple[int, int],
        patch_size: int = 16,
        embed_dims: int = 512,
        num_layers: int = 8,
        num_heads: int = 16,
        with_cp: bool | int = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_grid, self.with_cp = tuple(patch_grid), with_cp
        self.decoder_embed = nn.Linear(in_channels, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.decoder_pos_embed = nn.Parameter(
            sincos_pos_embed(self.patch_grid, embed_dims, cls_token=True), requires_grad=False
        )
        self.decoder_blocks = nn.ModuleList(
            TransformerLayer(embed_dims, num_heads, 4 * embed_dims) for _ in range(num_layers)
        )
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.decoder_pred = nn.Linear(embed_dims, 3 * patch_size**2)
        init_transformer_weights(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: torch.Tensor, ids_restore: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Predict every patch.

        Args:
            latent: ``(B, 1 + n, C)`` encoded cls token and visible patches.
            ids_restore: ``(B, N)`` place of each patch in the shuffled order.
            grid: ``(h, w)`` of the image, ``h * w == N``.

        Returns:
            ``(B, N, 3 p^2)``.
        """
        x = self.decoder_embed(latent)
        batch, visible, channels = x.shape
        masks = self.mask_token.to(x.dtype).expand(batch, ids_restore.shape[1] + 1 - visible, -1)
        patches = torch.cat([x[:, 1:], masks], dim=1)
        patches = patches.gather(1, ids_restore[..., None].expand(-1, -1, channels))
        position = resize_grid(self.decoder_pos_embed[:, 1:], self.patch_grid, grid)
        x = torch.cat([x[:, :1] + self.decoder_pos_embed[:, :1], patches + position], dim=1)
        for index, block in enumerate(self.decoder_blocks):
            x = run_layer(block, x, index, self.with_cp)
        return self.decoder_pred(self.ln1(x))[:, 1:]


@MODELS.register_module()
class MAEPretrainer(BaseModel):
    """Encoder, decoder and reconstruction loss.

    Args:
        backbone: Config of a `SapiensViT` with cls token; its position embedding is frozen here.
        neck: Config of the decoder; ``in_channels``, ``patch_grid``, ``patch_size`` and ``with_cp`` come from the
            backbone.
        mask_ratio: Default part of the patches that is removed.
        norm_pix: Normalise each target patch by its own mean and variance (eps 1e-6).
        data_preprocessor: Config; `HumanDataPreprocessor` by default.

    Raises:
        UserError: The backbone gives something else than the decoder takes.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type='sapiens.HumanDataPreprocessor')), init_cfg)
        encoder = MODELS.build({'with_cls_token': True, 'freeze_pos_embed': True, 'out_type': 'raw', **backbone})
        layers = len(encoder.out_indices)
        if encoder.cls_token is None or encoder.out_type != 'raw' or layers != 1 or encoder.out_stem:
            raise UserError('MAEPretrainer: its backbone gives the raw tokens of one layer, with a cls token; leave '
                            'out_type, out_indices, out_stem and with_cls_token out')  # fmt: skip
        self.backbone = encoder
        inherited = {key: getattr(encoder, key) for key in ('patch_grid', 'patch_size', 'with_cp')}
        self.neck = MODELS.build({'in_channels': encoder.embed_dims, **inherited, **neck})
        check_number('MAEPretrainer.mask_ratio', mask_ratio, 0, 1, below=True)
        self.mask_ratio, self.norm_pix = mask_ratio, norm_pix

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.backbone.patch_size

    def forward_encoder(
        self, images: torch.Tensor, mask_ratio: float | None = None, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode the visible patches alone.

        Args:
            images: ``(B, 3, H, W)`` normalised RGB, sides multiples of the patch.
            mask_ratio: Part to remove; the model's own when None.
            noise: ``(B, N)`` that decides which patches stay; drawn when None.

        Returns:
            latent ``(B, 1 + n, C)``, mask ``(B, N)`` (1 = removed), ids_restore ``(B, N)``.

        Raises:
            UserError: A side of the images is not a multiple of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(f'MAE needs images whose sides are multiples of {self.patch_size}, not {height} x {width}: '
                            'resize or crop them in the pipeline')  # fmt: skip
        if noise is None:
            noise = rand_per_sample((images.shape[0], math.prod(self.backbone.grid(images))), images.device)
        ids_keep, ids_restore, mask = random_masking(noise, self.mask_ratio if mask_ratio is None else mask_ratio)
        if self.backbone.patch_embed.sees_neighbours:
            # Convolutions would carry what is removed into the patches that stay.
            seen = (1 - mask).to(images.dtype).unflatten(1, (1, *self.backbone.grid(images)))
            images = images * seen.repeat_interleave(self.patch_size, 2).repeat_interleave(self.patch_size, 3)
        (latent,) = self.backbone(images, ids_keep)
        return latent, mask, ids_restore

    def forward_decoder(self, latent: torch.Tensor, ids_restore: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Predict every patch ``(B, N, 3 p^2)``; of the images only the size matters."""
        return self.neck(latent, ids_restore, self.backbone.grid(images))

    @full_precision
    def forward_loss(self, images: torch.Tensor, pred: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean over removed patches of the mean squared error of a patch; 0 when nothing was removed.

        Args:
            images: ``(B, 3, H, W)`` normalised RGB.
            pred: ``(B, N, 3 p^2)``.
            mask: ``(B, N)``, 1 = removed.
        """
        error = (pred - self.target(images)) ** 2
        return (error.mean(-1) * mask).sum() / mask.sum().clamp(min=1)

    def target(self, images: torch.Tensor) -> torch.Tensor:
        """What the decoder shall predict: ``(B, N, 3 p^2)``."""
        patches = patchify(images, self.patch_size)
        if self.norm_pix:
            patches = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        return patches

    def loss(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """The whole method: normalised images ``(B, 3, H, W)`` -> scalar."""
        latent, mask, ids_restore = self.forward_encoder(images, noise=noise)
        return self.forward_loss(images, self.forward_decoder(latent, ids_restore, images), mask)

    def forward(
        self, inputs: torch.Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> dict[str, torch.Tensor] | torch.Tensor | list:
        """Entry for mmengine: ``'loss'`` -> dict, ``'tensor'`` -> predicted patches ``(B, N, 3 p^2)``.

        ``'predict'`` returns the data samples with the scalar field ``mae_loss`` for validation.
        """
        if mode == 'loss':
            return {'loss': self.loss(inputs)}
        if mode == 'tensor':
            latent, _, ids_restore = self.forward_encoder(inputs)
            return self.forward_decoder(latent, ids_restore, inputs)
        for sample, image in zip(data_samples, inputs, strict=True):
            sample.set_field(to_host(self.loss(image[None]).detach()), 'mae_loss')
        wait(inputs.device)
        return data_samples

    @torch.no_grad()
    def reconstruct(
        self, images: torch.Tensor, mask_ratio: float | None = None, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Pictures for people: original, what the encoder saw, and the image filled in.

        With normalised targets a patch is predicted up to its mean and variance; as in the MAE paper's figures
        these two numbers come from the original patch. Visible patches are shown as they are.

        Args:
            images: ``(B, 3, H, W)`` uint8 RGB, sides multiples of the patch.
            mask_ratio: Part to remove.
            generator: CPU generator that makes the mask repeatable.

        Returns:
            ``original``, ``masked`` (removed patches mid-grey) and ``reconstruction``: ``(B, 3, H, W)`` uint8 RGB.
        """
        device = next(self.parameters()).device
        normalised = self.data_preprocessor({'inputs': list(images)}, False)['inputs']
        grid = self.backbone.grid(images)
        noise = torch.rand(len(images), math.prod(grid), generator=generator).to(device)
        latent, mask, ids_restore = self.forward_encoder(normalised, mask_ratio, noise)
        patches = self.forward_decoder(latent, ids_restore, normalised).float()
        original = patchify(normalised, self.patch_size)
        if self.norm_pix:
            deviation = (original.var(-1, keepdim=True) + 1e-6).sqrt()
            patches = patches * deviation + original.mean(-1, keepdim=True)
        removed = mask[..., None].bool()
        filled = unpatchify(torch.where(removed, patches, original), self.patch_size, grid)
        shown = unpatchify(torch.where(removed, torch.full_like(original, torch.nan), original), self.patch_size, grid)
        restore_pixels = self.data_preprocessor.denormalise
        return {
            'original': images.to(device),
            'masked': restore_pixels(shown, fill=128),
            'reconstruction': restore_pixels(filled),
        }
