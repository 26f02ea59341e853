# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The encoder: a plain ViT for high-resolution images of people (paper, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from ...errors import UserError
from ...registry import MODELS
from .low_rank import add_adapters
from .pos_embed import resize_grid, sincos_pos_embed
from .stems import ConvStem, PatchEmbed
from .transformer import TransformerLayer, init_transformer_weights, run_layer

ARCHS = {
    'tiny': dict(embed_dims=192, num_layers=10, num_heads=3, feedforward_channels=768),
    'small': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    '0.3b': dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
    '0.6b': dict(embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120),
    '1b': dict(embed_dims=1536, num_layers=40, num_heads=24, feedforward_channels=6144),
    '2b': dict(embed_dims=1920, num_layers=48, num_heads=32, feedforward_channels=7680),
}


def resolve_arch(arch: str | dict) -> dict:
    """Widths of an architecture: a name of `ARCHS` or a dict of all four numbers.

    Raises:
        UserError: Unknown name or a dict that lacks a width.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(
                f"unknown arch '{arch}' of SapiensViT; known are {', '.join(ARCHS)}, or give a dict of widths"
            )
        return dict(ARCHS[arch])
    missing = set(ARCHS['tiny']) - set(arch)
    if missing:
        raise UserError(f'arch of SapiensViT lacks {", ".join(sorted(missing))}')
    return {key: int(arch[key]) for key in ARCHS['tiny']}


@MODELS.register_module()
class SapiensViT(BaseModule):
    """Vision transformer with the published parameter names (``layers.N.attn.qkv``, final norm ``ln1``, ...).

    Args:
        arch: ``'tiny' | 'small' | '0.3b' | '0.6b' | '1b' | '2b'`` or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``.
        img_size: ``(H, W)`` that the position embedding is made for; other sizes resize it on the fly.
        patch_size: Side of a patch.
        patch_padding: 0 or 2, see `PatchEmbed`.
        stem: ``'patch'``, the paper's projection of patches, or ``'conv'`` (see `ConvStem`) for small sizes.
        out_stem: Put out the conv stem's maps at strides 4 and 8 before the features of the layers.
        with_cls_token: Have a cls token (pretraining).
        out_type: ``'featmap'`` (B, C, h, w), ``'raw'`` tokens (B, (1 +) h * w, C), or ``'cls_token'`` (B, C).
        out_indices: Layers to put out, negative ones counted from the last. Only the last layer passes the final
            norm.
        final_norm: Apply the final norm.
        drop_path_rate: Of the last layer; it grows linearly from 0 at the first.
        with_cp: Activation checkpointing: recompute each layer in the backward pass to save memory; n: every n-th.
        frozen_layers: The embeddings (patch, position, cls token) and this many first layers do not train and
            drop nothing; all of them: the final norm neither. -1 trains everything.
        tune: What of the encoder trains, instead of a number: ``'all'``, ``'none'``, ``'last:N'`` layers, or
            ``'lora:R'``, which adds adapters of rank R to all layers and trains these (see `LowRankLinear`).
        freeze_pos_embed: Keep the position embedding fixed (pretraining).
        init_cfg: mmengine initialisation, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        UserError: Unknown arch or tune, out_type without cls token, or layer that does not exist.
    """

    def __init__(
        self,
        arch: str | dict = '0.3b',
        img_size: int | tuple[int, int] = (1024, 768),
        patch_size: int = 16,
        patch_padding: int = 0,
        stem: str = 'patch',
        out_stem: bool = False,
        with_cls_token: bool = False,
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
        with_cp: bool | int = False,
        frozen_layers: int = -1,
        tune: str | None = None,
        freeze_pos_embed: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        widths = resolve_arch(arch)
        self.embed_dims, self.num_layers, self.num_heads = (
            widths[name] for name in ('embed_dims', 'num_layers', 'num_heads')
        )
        hidden = widths['feedforward_channels']
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.patch_size, self.with_cp = patch_size, int(with_cp)
        self.frozen_layers, rank = (frozen_layers, 0) if tune is None else self._parse_tune(tune)
        if patch_padding not in (0, 2):
            raise UserError(f'patch_padding of SapiensViT is 0 or 2, not {patch_padding}')
        if out_type not in ('featmap', 'raw', 'cls_token') or (out_type == 'cls_token' and not with_cls_token):
            raise UserError(f"out_type '{out_type}' of SapiensViT (with_cls_token={with_cls_token}) is not one of "
                            "'featmap', 'raw' or, with a cls token, 'cls_token'")  # fmt: skip
        self.out_type = out_type
        self.out_indices = self._check_indices([out_indices] if isinstance(out_indices, int) else out_indices)

        if stem not in ('patch', 'conv') or (stem == 'conv' and (patch_size, patch_padding) != (16, 0)):
            raise UserError(f"stem '{stem}' of SapiensViT (patch_size={patch_size}, patch_padding={patch_padding}) is "
                            "neither 'patch' nor 'conv', which has patches of 16 without padding")  # fmt: skip
        if out_stem and stem != 'conv':
            raise UserError("out_stem of SapiensViT needs stem='conv'")
        self.out_stem = out_stem
        self.patch_embed = (
            ConvStem(self.embed_dims) if stem == 'conv' else PatchEmbed(self.embed_dims, patch_size, patch_padding)
        )
        self.patch_grid = self.patch_embed.grid(self.img_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        self.pos_embed = nn.Parameter(
            sincos_pos_embed(self.patch_grid, self.embed_dims, with_cls_token), requires_grad=not freeze_pos_embed
        )
        rates = torch.linspace(0, drop_path_rate, self.num_layers, device='cpu').tolist()
        self.layers = nn.ModuleList(TransformerLayer(self.embed_dims, self.num_heads, hidden, rate) for rate in rates)
        self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6) if final_norm else nn.Identity()
        self._init_parameters()
        if self.frozen_layers >= 0:
            for part in (self.pos_embed, self.cls_token, *self._frozen_modules()):
                if part is not None:
                    part.requires_grad_(False)
        if rank:
            add_adapters(self.layers, rank)

    def _parse_tune(self, tune: str) -> tuple[int, int]:
        """Number of frozen layers (-1 = nothing is frozen) and rank of the adapters (0 = none)."""
        kind, _, number = str(tune).partition(':')
        count = int(number) if number.isdecimal() else 0
        if not number and kind in ('all', 'none'):
            return (-1 if kind == 'all' else self.num_layers), 0
        if kind == 'last' and 0 < count <= self.num_layers:
            return self.num_layers - count, 0
        if kind == 'lora' and count > 0:
            return self.num_layers, count
        raise UserError(f"tune of SapiensViT is 'all', 'none', 'last:N' with N in 1..{self.num_layers} or 'lora:R' "
                        f"with a rank R, not '{tune}'")  # fmt: skip

    def _check_indices(self, indices: Sequence[int]) -> list[int]:
        positive = [i + self.num_layers if i < 0 else i for i in indices]
        wrong = [i for i, p in zip(indices, positive, strict=True) if not 0 <= p < self.num_layers]
        if wrong:
            raise UserError(f'layer {wrong[0]} does not exist in a SapiensViT of {self.num_layers} layers')
        return positive

    def _init_parameters(self) -> None:
        init_transformer_weights(self.layers)
        # The projection is initialised like a linear layer on flattened patches (as MAE does).
        weight = self.patch_embed.projection.weight
        nn.init.xavier_uniform_(weight.data.view(weight.shape[0], -1))
        nn.init.zeros_(self.patch_embed.projection.bias)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_layers < 0:
            return []
        final = [self.ln1] if self.frozen_layers >= self.num_layers else []
        return [self.patch_embed, *self.layers[: self.frozen_layers], *final]

    def train(self, mode: bool = True) -> SapiensViT:
        """Switch to training; frozen layers stay as in evaluation."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    @property
    def num_extra_tokens(self) -> int:
        """1 with a cls token, else 0."""
        return 0 if self.cls_token is None else 1

    @property
    def stem_channels(self) -> tuple[int, int] | None:
        """Widths of the stem's maps that are put out, at strides 4 and 8; None without them."""
        return self.patch_embed.widths[1:3] if self.out_stem else None

    def position(self, grid: tuple[int, int]) -> torch.Tensor:
        """Position embedding of the patches for a grid ``(h, w)``: ``(1, h * w, C)``, without the cls row."""
        return resize_grid(self.pos_embed[:, self.num_extra_tokens :], self.patch_grid, grid)

    def _run(
        self,
        embedded: torch.Tensor,
        grid: tuple[int, int],
        indices: Sequence[int],
        ids_keep: torch.Tensor | None = None,
        norm: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Tokens ``(B, (1 +) N, C)`` behind the layers of these indices; all pass the final norm, or the last alone."""
        tokens = embedded + self.position(grid)
        if ids_keep is not None:
            tokens = tokens.gather(1, ids_keep[..., None].expand(-1, -1, tokens.shape[2]))
        if self.cls_token is not None:
            cls = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([cls, tokens], dim=1)
        outputs = {}
        for index, layer in enumerate(self.layers[: max(indices) + 1]):
            tokens = run_layer(layer, tokens, index, self.with_cp)
            if index in indices:
                outputs[index] = self.ln1(tokens) if norm or index == self.num_layers - 1 else tokens
        return outputs

    def grid(self, x: torch.Tensor) -> tuple[int, int]:
        """``(h, w)`` patches of images ``(B, 3, H, W)``."""
        return self.patch_embed.grid(tuple(x.shape[-2:]))

    def forward(self, x: torch.Tensor, ids_keep: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Features of the chosen layers.

        Args:
            x: ``(B, 3, H, W)`` normalised RGB.
            ids_keep: ``(B, n)`` patches that the layers see (masked autoencoders); all when None.

        Returns:
            One tensor for each of ``out_indices``, shaped as ``out_type`` says; a choice of patches cannot be
            ``'featmap'``. With ``out_stem``, the stem's maps at strides 4 and 8 come before them.
        """
        stem_maps = self.patch_embed.maps(x) if self.out_stem else ()
        embedded = self.patch_embed.tokens(stem_maps[-1]) if self.out_stem else self.patch_embed(x)
        outputs = self._run(embedded, self.grid(x), self.out_indices, ids_keep)
        feats = (self._format(outputs[index], self.out_type, self.grid(x)) for index in self.out_indices)
        return (*stem_maps[1:3], *feats)

    def get_intermediate_layers(
        self,
        x: torch.Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = False,
    ) -> tuple[torch.Tensor, ...] | tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Features of any layers in one pass, whatever ``out_indices`` says.

        Args:
            x: ``(B, 3, H, W)`` normalised RGB.
            n: The last n layers, or a list of layers, negative ones counted from the last.
            reshape: Give maps instead of tokens.
            return_class_token: Give pairs of patches and cls token.
            norm: Apply the final norm to every layer; as in `forward`, the last one always passes it.

        Returns:
            For each layer, in the order asked for, ``(B, h * w, C)``, or ``(B, C, h, w)`` with ``reshape``; with
            ``return_class_token`` the pair of that and ``(B, C)``.

        Raises:
            UserError: A layer does not exist, or there is no cls token.
        """
        if return_class_token and self.cls_token is None:
            raise UserError('this encoder has no cls token (only pretrained encoders have): leave it out')
        indices = self._check_indices(range(-n, 0) if isinstance(n, int) else n)
        outputs = self._run(self.patch_embed(x), self.grid(x), indices, norm=norm)
        kind = 'featmap' if reshape else 'patches'
        patches = [self._format(outputs[index], kind, self.grid(x)) for index in indices]
        if not return_class_token:
            return tuple(patches)
        return tuple((patch, outputs[index][:, 0]) for patch, index in zip(patches, indices, strict=True))

    def _format(self, tokens: torch.Tensor, kind: str, grid: tuple[int, int]) -> torch.Tensor:
        if kind == 'cls_token':
            return tokens[:, 0]
        if kind == 'raw':
            return tokens
        patches = tokens[:, self.num_extra_tokens :]
        return patches.transpose(1, 2).reshape(tokens.shape[0], -1, *grid) if kind == 'featmap' else patches
