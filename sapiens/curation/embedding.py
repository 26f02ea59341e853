# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Features of whole images, for near-duplicates that perceptual hashes miss (crops, borders, captions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from ..apis.library_detectors import load_transformers
from ..apis.loading import choose_device, load_model
from ..registry import CURATION_MODELS, CURATION_STAGES
from .stage import Item, Stage


@CURATION_STAGES.register_module()
class Embedding(Stage):
    """A unit vector an image; the second job looks for pairs of high cosine.

    Args:
        model: Of `CURATION_MODELS`, or a callable: images -> ``(N, D)``.
    """

    columns = {'embedding': 'halfs'}

    def __init__(self, name: str, model: Any, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.model = model

    def load(self) -> None:
        """Load the model."""
        self.run = build_model(self.model)

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """Features of length 1."""
        found = np.asarray(self.run([i.image for i in items]), np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True) + 1e-12
        return [{'embedding': f.astype(np.float16)} for f in found]


def build_model(spec: Any) -> Any:
    """A model from its config; a callable is one already."""
    return spec if callable(spec) else CURATION_MODELS.build(dict(spec))


@CURATION_MODELS.register_module()
class SapiensEncoder:
    """Tokens of an encoder of ours, averaged over a grid of 4 x 3; the tiny one ships, for sets of up to a million.

    Args:
        model: Name or config, see `load_model`.
        weights: Its weights; None = those that ship or that are at hand.
        device: See `choose_device`.
    """

    def __init__(self, model: str = 'tiny', weights: str | None = None, device: str = 'auto') -> None:
        self.network = load_model(model, weights).network.float().to(choose_device(device))
        self.size = tuple(self.network.backbone.img_size)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features ``(N, D)`` of RGB images."""
        small = [cv2.resize(i, self.size[::-1], interpolation=cv2.INTER_AREA).transpose(2, 0, 1) for i in images]
        inputs = [torch.from_numpy(np.ascontiguousarray(s)) for s in small]
        inputs = self.network.data_preprocessor({'inputs': inputs})['inputs']
        tokens = self.network.extract_feat(inputs)[-1].float()
        return torch.nn.functional.adaptive_avg_pool2d(tokens, (4, 3)).flatten(1).cpu().numpy()


@CURATION_MODELS.register_module()
class TransformersEncoder:
    """The pooled output of an image encoder of Hugging Face transformers, e.g. DINOv2 or SSCD.

    Args:
        name: Model on the hub, or a folder; its weights must be safetensors.
        device: See `choose_device`.
    """

    def __init__(self, name: str = 'facebook/dinov2-small', device: str = 'auto') -> None:
        self.processor, self.network, self.device = load_transformers(name, 'AutoModel', device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features ``(N, D)`` of RGB images."""
        output = self.network(**process(self.processor, images, self.device))
        pooled = getattr(output, 'pooler_output', None)
        return (output.last_hidden_state[:, 0] if pooled is None else pooled).float().cpu().numpy()


def process(processor: Any, images: Sequence[np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """Inputs of a model from RGB images."""
    inputs = processor(images=list(images), return_tensors='pt', input_data_format='channels_last')
    return {key: value.to(device) for key, value in inputs.items()}
