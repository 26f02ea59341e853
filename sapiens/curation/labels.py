# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Filters by what a model says of the whole image: watermark, art, unnatural, not safe for work."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..apis.library_detectors import load_transformers
from ..errors import UserError
from ..registry import CURATION_MODELS, CURATION_STAGES
from ..utils.files import replace_when_done
from .embedding import build_model, process
from .stage import Item, Stage, scaled


@CURATION_STAGES.register_module()
class Labels(Stage):
    """Probabilities of labels by a model; an image with one above its threshold is dropped with the label as reason.

    Args:
        labels: Which of the model's labels to store, as columns ``NAME_LABEL``.
        model: Of `CURATION_MODELS`, or a callable with ``labels``: images -> ``(N, L)``.
        **kwargs: See `Stage`. ``reject`` and ``gate`` map labels to the highest probability that stays.
    """

    def __init__(self, name: str, labels: Sequence[str], model: Any, **kwargs: Any) -> None:
        self.labels = {label: f'{name}_{label}' for label in labels}
        self.columns = dict.fromkeys(self.labels.values(), 'float')
        self.model = model
        super().__init__(name, **kwargs)

    def load(self) -> None:
        """Load the model.

        Raises:
            UserError: It has no such label.
        """
        self.run = build_model(self.model)
        unknown = [label for label in self.labels if label not in self.run.labels]
        if unknown:
            raise UserError(f"config: stage '{self.name}': its model has no label '{unknown[0]}'; it has "
                            f'{", ".join(self.run.labels)}')  # fmt: skip

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """A probability for each label."""
        where = [list(self.run.labels).index(label) for label in self.labels]
        found = np.asarray(self.run([i.image for i in items]), np.float32)[:, where]
        return [dict(zip(self.columns, row.tolist(), strict=True)) for row in found]

    def reason(self, row: Mapping[str, Any], **most: float) -> str | None:
        """The first label above its threshold."""
        unknown = set(most) - set(self.labels)
        if unknown:
            raise TypeError(f"has no label '{sorted(unknown)[0]}'; it has {', '.join(self.labels)}")
        return next((label for label, value in most.items() if row[self.labels[label]] > value), None)


@CURATION_MODELS.register_module()
class ZeroShot:
    """An image-text model of Hugging Face transformers (SigLIP 2, CLIP) that is told what to look for.

    A label's probability is the softmax over all prompts, summed over its own. Some label must stand for what is
    wanted, e.g. ``photo``.

    Args:
        prompts: Label -> sentences.
        name: Model on the hub, or a folder; its weights must be safetensors.
        device: See `choose_device`.
    """

    def __init__(
        self,
        prompts: Mapping[str, Sequence[str]],
        name: str = 'google/siglip2-base-patch16-224',
        device: str = 'auto',
    ) -> None:
        self.labels = tuple(prompts)
        self.processor, self.network, self.device = load_transformers(name, 'AutoModel', device, 'AutoProcessor')
        sentences = [sentence for group in prompts.values() for sentence in group]
        self.owner = torch.tensor([n for n, group in enumerate(prompts.values()) for _ in group], device=self.device)
        siglip = 'siglip' in self.network.config.model_type  # trained on sentences padded to 64
        longest = min(64, self.network.config.text_config.max_position_embeddings)
        padding = dict(padding='max_length', max_length=longest) if siglip else dict(padding=True)
        words = self.processor.tokenizer(sentences, truncation=True, return_tensors='pt', **padding)
        self.words = words.to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, L)`` of RGB images."""
        pixels = process(self.processor.image_processor, images, self.device)
        logits = self.network(**self.words, **pixels).logits_per_image.float()
        shares = logits.softmax(1)
        return shares.new_zeros(len(shares), len(self.labels)).index_add_(1, self.owner, shares).cpu().numpy()


@CURATION_MODELS.register_module()
class Classifier:
    """An image classifier of Hugging Face transformers that was trained for the question.

    Args:
        name: Model on the hub, or a folder; its weights must be safetensors.
        device: See `choose_device`.
    """

    def __init__(self, name: str, device: str = 'auto') -> None:
        self.processor, self.network, self.device = load_transformers(name, 'AutoModelForImageClassification', device)
        names = self.network.config.id2label
        self.labels = tuple(str(names[i]) for i in sorted(names))

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, L)`` of RGB images."""
        return self.network(**process(self.processor, images, self.device)).logits.softmax(1).float().cpu().numpy()


@CURATION_MODELS.register_module()
class Probe:
    """A linear classifier on features, fitted to a few hundred examples of one's own by `fit_probe`.

    Args:
        path: File of `fit_probe`.

    Raises:
        UserError: No such file, or not one of these.
    """

    def __init__(self, path: str) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self.labels = (str(file['label']),)
                self.weights, self.bias = file['weights'], float(file['bias'])
                features = json.loads(str(file['features']))
        except FileNotFoundError:
            raise UserError(f'{path}: no such probe; fit one with tools/curation/fit_probe.py') from None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f'{path}: not a probe of tools/curation/fit_probe.py ({error})') from None
        self.features = CURATION_MODELS.build(features)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, 1)`` of RGB images."""
        return self.judge(self.features(images))[:, None]

    def judge(self, values: np.ndarray) -> np.ndarray:
        """Probabilities ``(N,)`` of features ``(N, D)``."""
        return 0.5 + 0.5 * np.tanh((np.asarray(values, np.float64) @ self.weights + self.bias) / 2)


@CURATION_MODELS.register_module()
class PixelStatistics:
    """Features of texture and colour that need no model: drawings are flat with hard edges, photos are not.

    Histograms of gradients at three scales, of local binary patterns at two, of saturation, and the share of flat
    blocks: 104 numbers.
    """

    sides = (512, 256, 128)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features ``(N, 104)`` of RGB images."""
        return np.stack([self._one(i) for i in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        parts, edges = [], np.concatenate([[-1], 2.0 ** np.arange(0, 7.5, 0.5), [np.inf]])
        for side in self.sides:
            small = scaled(image, side / max(image.shape[:2]), least=8)
            grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
            gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 4
            parts.append(np.histogram(gradient, edges)[0] / gradient.size)
            if side > 128:
                parts.append(_patterns(grey))
        saturation = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1]
        parts.append(np.histogram(saturation, 19, (0, 256))[0] / saturation.size)
        blocks = grey[: grey.shape[0] // 8 * 8, : grey.shape[1] // 8 * 8].astype(np.float32)
        blocks = blocks.reshape(blocks.shape[0] // 8, 8, -1, 8).std((1, 3))
        parts.append([(blocks < 2).mean()])
        return np.sqrt(np.concatenate(parts)).astype(np.float32)


def _patterns(grey: np.ndarray) -> np.ndarray:
    """Histogram ``(18,)`` of rotation-invariant local binary patterns: brighter neighbours, by jumps."""
    centre = grey[1:-1, 1:-1].astype(np.int16) + 2  # less than the noise of a flat area does not count
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    height, width = centre.shape
    bright = np.stack([grey[y : y + height, x : x + width] > centre for y, x in ring])
    smooth = (bright != np.roll(bright, 1, 0)).sum(0) <= 2
    return np.bincount((bright.sum(0) + 9 * smooth).ravel(), minlength=18) / centre.size


def fit_probe(
    path: str | Path, label: str, features: Mapping[str, Any], values: np.ndarray, truth: np.ndarray, decay: float = 1.0
) -> None:
    """Fit a `Probe` by logistic regression and write it.

    Args:
        label: What it will call its positive examples.
        features: Config of the model of the features.
        values: ``(N, D)`` features of the examples.
        truth: ``(N,)`` whether each is a positive one.
        decay: Strength of the penalty on the weights, of standardised features.
    """
    values, truth = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    mean, std = values.mean(0), values.std(0) + 1e-6
    design = np.c_[(values - mean) / std, np.ones(len(values))]
    penalty = np.diag([decay] * values.shape[1] + [1e-6])
    found = np.zeros(design.shape[1])
    for _ in range(30):  # Newton's method
        share = 0.5 + 0.5 * np.tanh(design @ found / 2)
        slope = design.T @ (share - truth) + penalty @ found
        found -= np.linalg.solve(design.T @ (design * (share * (1 - share))[:, None]) + penalty, slope)
    weights = found[:-1] / std
    with replace_when_done(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, label=label, features=json.dumps(dict(features)), weights=weights,
                 bias=found[-1] - mean @ weights)  # fmt: skip
