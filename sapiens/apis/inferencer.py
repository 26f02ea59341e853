# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The models in three lines: images in, typed results out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config

from ..errors import UserError
from ..structures import HumanDataSample
from .assemble import PendingImage, assemble
from .detectors import Detections, build_detector
from .loading import LoadedModel, choose_device, choose_dtype, load_model
from .network import Crop, Network
from .results import Features, ImageResult
from .sources import Failure, Frame, open_frames

ModelSpec = str | Path | Config | LoadedModel


class Inferencer:
    """Runs one or several models on images of any kind.

    ::

        for result in Inferencer('pose_308', weights='sapiens_1b_308.safetensors')('photos/'):
            result.save('out')

    Args:
        models: Name (``'pose_308'``, ``'seg_28_1b'``), config, or a list of them; None: what the weights are.
        weights: Checkpoint, or one per model; published files load as they are. None: those at hand by name.
        device: ``'auto'`` (cuda, mps, cpu), or a device.
        dtype: Of the encoder; ``'auto'`` is bfloat16 or float16 on GPUs, float32 elsewhere.
        detector: Where the persons are: see `sapiens.apis.detectors.build_detector`. None: each image is one person.
        per_person: Run dense models on each person and paste the results back; else on the whole image. Models with a
            pose head look at persons for all their tasks.
        batch_size: Crops that run together, over images and persons.
        flip_test: Average with the mirrored image; None = as the configs say.
        part_scores: Keep the probability of the chosen part.
        task: Task of a published dense head, where neither layout nor file name tells.
        allow_partial: Leave out heads that the weights lack.

    Attributes:
        tasks: Tasks that run.
        failures: Images of the last call that could not be read, and where a video broke.

    Raises:
        UserError: Unknown model, wrong or missing weights, no such device.
    """

    def __init__(
        self,
        models: ModelSpec | Sequence[ModelSpec] | None = None,
        weights: str | Path | Sequence[str | Path] | None = None,
        *,
        device: str = 'auto',
        dtype: str | torch.dtype = 'auto',
        detector: Any = None,
        per_person: bool = False,
        batch_size: int = 4,
        flip_test: bool | None = None,
        part_scores: bool = False,
        task: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f'batch_size is at least 1, not {batch_size}')
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.batch_size, self.per_person, self.part_scores = batch_size, per_person, part_scores
        self.detector = build_detector(detector)
        self.networks: list[Network] = []
        self.failures: list[Failure] = []
        owners: dict[str, str] = {}
        for model, file in _pairs(models, weights):
            loaded = model if isinstance(model, LoadedModel) else _load(model, file, task, allow_partial)
            pasted = per_person or len(getattr(loaded.network, 'heads', ())) > 1
            network = Network(loaded, self.device, self.dtype, flip_test, part_scores or pasted)
            for name in network.tasks:
                if name in owners:
                    raise UserError(f"{owners[name]} and {loaded.source} both do '{name}': use an Inferencer for each")
                owners[name] = loaded.source
            self.networks.append(network)
        self.tasks = tuple(name for network in self.networks for name in network.tasks)

    def __call__(
        self,
        source: Any,
        *,
        color: str | None = None,
        masks: Any = None,
        tasks: Sequence[str] | None = None,
        skip_bad: bool = True,
        detect: Callable[[Frame], Detections] | None = None,
    ) -> Iterator[ImageResult]:
        """Run on a source, image by image, in its order; memory does not grow with the length of the source.

        Args:
            source: See `sapiens.apis.sources.open_frames`.
            color: ``'rgb'`` or ``'bgr'`` of arrays.
            masks: People in the images, which depth and normals are valid on: an array ``(H, W)``, a folder of PNGs
                named like the images, or a callable ``Frame -> (H, W)``. None: the part model's, if one runs.
            tasks: Run only these.
            skip_bad: Go on after an unreadable image of a folder or list and note it in ``failures``; else raise.
            detect: Detector for this call instead of the Inferencer's (a tracker, say).

        Raises:
            UserError: The source is missing or unreadable, or a task is asked for that no model does.
        """
        if not self.tasks:
            raise UserError(
                f'{self.networks[0].source}: is an encoder without heads; use extract(), or demo/mae_demo.py'
            )
        chosen = tuple(self.tasks if tasks is None else tasks)
        unknown = [name for name in chosen if name not in self.tasks]
        if unknown or not chosen:
            raise UserError(f"no model here does the task '{(unknown or [''])[0]}'; these do {', '.join(self.tasks)}")
        self.failures = []
        frames = open_frames(source, color, self.failures if skip_bad else None)
        return self._stream(frames, chosen, masks, detect or self.detector, source)

    def _stream(
        self, frames: Iterator[Frame], tasks: tuple[str, ...], masks: Any, detect: Callable, source: Any
    ) -> Iterator[ImageResult]:
        queues: list[list[tuple[PendingImage, Crop]]] = [[] for _ in self.networks]
        line: deque[PendingImage] = deque()
        count = 0
        for frame in frames:
            count += 1
            line.append(self._prepare(frame, tasks, masks, detect, queues))
            for network, queue in zip(self.networks, queues, strict=True):
                while len(queue) >= self.batch_size:
                    _run(network, queue[: self.batch_size])
                    del queue[: self.batch_size]
            while line and not line[0].waiting:
                yield assemble(line.popleft())
            # A model that gets few crops must not hold up many images.
            if len(line) > 2 * self.batch_size:
                self._flush(queues)
        self._flush(queues)
        for pending in line:
            yield assemble(pending)
        if not count and not self.failures:
            raise UserError(f'{source if isinstance(source, (str, Path)) else "the source"}: gave no image')

    def _flush(self, queues: list[list[tuple[PendingImage, Crop]]]) -> None:
        for network, queue in zip(self.networks, queues, strict=True):
            for start in range(0, len(queue), self.batch_size):
                _run(network, queue[start : start + self.batch_size])
            queue.clear()

    def _prepare(
        self, frame: Frame, tasks: tuple[str, ...], masks: Any, detect: Callable, queues: list[list]
    ) -> PendingImage:
        persons, vocabularies = None, {}
        for network in self.networks:
            for name in set(network.tasks) & set(tasks):
                vocabularies[name] = getattr(network.heads[name], 'vocabulary', None)
        pending = PendingImage(frame, None, vocabularies, _mask(masks, frame))
        for network, queue in zip(self.networks, queues, strict=True):
            wanted = tuple(name for name in network.tasks if name in tasks)
            if not wanted:
                continue
            if network.topdown or self.per_person:
                if persons is None:
                    persons = pending.persons = detect(frame)
                crops = [network.crop(frame.image, box, wanted, i) for i, box in enumerate(persons.boxes)]
                if 'depth' in wanted and len(crops) > 1:
                    # Relative depth of each person is brought to the scale of the whole image's.
                    height, width = frame.image.shape[:2]
                    box = np.array([0, 0, width - 1, height - 1], np.float32) if network.topdown else None
                    crops.append(network.crop(frame.image, box, ('depth',)))
            else:
                crops = [network.crop(frame.image, None, wanted)]
            pending.waiting += len(crops)
            queue += [(pending, crop) for crop in crops]
        return pending

    def predict_inputs(
        self,
        inputs: torch.Tensor,
        images: Sequence[np.ndarray] | None = None,
        warps: Sequence[np.ndarray] | None = None,
    ) -> list[ImageResult]:
        """Run on inputs that are ready for the networks, for callers with a pipeline of their own.

        Args:
            inputs: ``(B, 3, H, W)`` float, normalised, at the networks' input size.
            images: The original images, ``(H', W', 3)`` uint8 RGB; None: black ones of the inputs' size.
            warps: ``(2, 3)`` each: pixel centres of the original -> input; None: the whole image was resized.

        Raises:
            UserError: The sizes do not fit.
        """
        size = tuple(inputs.shape[-2:])
        wrong = next((n for n in self.networks if tuple(n.input_size) != size), None)
        if inputs.ndim != 4 or wrong is not None:
            raise UserError(f'inputs are (B, 3, {self.networks[0].input_size}), not {tuple(inputs.shape)}')
        if images is None:
            images = [np.zeros((*size, 3), np.uint8)] * len(inputs)
        line = []
        for i, image in enumerate(images):
            box = np.array([[0, 0, image.shape[1] - 1, image.shape[0] - 1]], np.float32)
            pending = PendingImage(Frame(image, f'image_{i:06d}', index=i), Detections(box, np.ones(1, np.float32)), {})
            line.append(pending)
        for network in self.networks:
            facts = [dict(img_shape=size, ori_shape=image.shape[:2]) for image in images]
            for i, warp in enumerate(warps if warps is not None else ()):
                facts[i]['warp_mat'] = torch.as_tensor(np.asarray(warp)[:2], dtype=torch.float64)
            samples = [HumanDataSample(metainfo=fact) for fact in facts]
            every = list(range(len(samples)))
            network.predict(inputs.to(self.device, self.dtype), samples, dict.fromkeys(network.tasks, every))
            for pending, sample in zip(line, samples, strict=True):
                height, width = pending.frame.image.shape[:2]
                for task in network.tasks:
                    pending.vocabularies[task] = getattr(network.heads[task], 'vocabulary', None)
                    pending.outputs[task] = [(Crop(None, np.eye(3), (0, 0, width, height), (task,)), sample)]
        return [assemble(pending) for pending in line]

    def extract(
        self,
        source: Any,
        layers: Sequence[int] = (-1,),
        cls: bool = False,
        pooled: bool = False,
        color: str | None = None,
    ) -> Iterator[Features]:
        """Features of the first model's encoder for whole images.

        Args:
            source: See `sapiens.apis.sources.open_frames`.
            layers: Layers, negative ones counted from the last; the last one passes the final norm.
            cls: Also give the cls token of the last of them (encoders of pretraining have one).
            pooled: Give means over the patches, ``(C,)``, instead of maps ``(C, h, w)``.
            color: ``'rgb'`` or ``'bgr'`` of arrays.

        Raises:
            UserError: No such layer, or no cls token.
        """
        self.failures = []
        batch: list[Frame] = []
        network = self.networks[0]

        def run(frames: list[Frame]) -> list[Features]:
            images, names = [f.image for f in frames], [f.name for f in frames]
            return network.features(images, names, tuple(layers), cls, pooled)

        for frame in open_frames(source, color, self.failures):
            batch.append(frame)
            if len(batch) == self.batch_size:
                yield from run(batch)
                batch = []
        if batch:
            yield from run(batch)


def _run(network: Network, items: list[tuple[PendingImage, Crop]]) -> None:
    for (pending, crop), sample in zip(items, network.run([crop for _, crop in items]), strict=True):
        crop.pixels = None  # no longer needed; the image waits for others perhaps
        for task in crop.tasks:
            pending.outputs.setdefault(task, []).append((crop, sample))
        pending.waiting -= 1


def _load(model: Any, weights: Any, task: str | None, allow_partial: bool) -> LoadedModel:
    if isinstance(model, Config):
        return load_model(None, weights, model, task, allow_partial)
    return load_model(model, weights, None, task, allow_partial)


def _pairs(models: Any, weights: Any) -> list[tuple[Any, Any]]:
    many_models = isinstance(models, (list, tuple))
    many_weights = isinstance(weights, (list, tuple))
    names = list(models) if many_models else [models]
    files = list(weights) if many_weights else [weights]
    if models is None and many_weights:
        names = [None] * len(files)
    if weights is None and many_models:
        files = [None] * len(names)
    if not names or len(names) != len(files):
        raise UserError(f'{len(names)} models and {len(files)} weights: give one checkpoint for each model')
    return list(zip(names, files, strict=True))


def _mask(masks: Any, frame: Frame) -> np.ndarray | None:
    if masks is None:
        return None
    if callable(masks):
        mask, where = masks(frame), 'the mask function'
    elif isinstance(masks, (str, Path)):
        where = Path(masks) / f'{frame.path.stem if frame.path else frame.name}.png'
        mask = cv2.imread(str(where), cv2.IMREAD_GRAYSCALE) if where.is_file() else None
        if mask is None:
            raise UserError(f'{where}: no such mask, or not a PNG')
    else:
        mask, where = masks, 'the mask'
    mask = np.asarray(mask)
    if mask.shape != frame.image.shape[:2]:
        raise UserError(f'{where}: has the size {mask.shape}, the image {frame.name} {frame.image.shape[:2]}')
    return mask > 0
