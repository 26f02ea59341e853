# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The models in three lines: images in, typed results out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmengine.config import Config

from ..engine.cli import check_compiler
from ..engine.precision import choose_precision
from ..errors import UserError
from ..structures import HumanDataSample
from ..utils.numbers import check_number
from ..utils.surroundings import out_of_surroundings
from .assemble import assemble
from .background import read_ahead
from .batches import MaskFolder, PendingImage, given_mask, run_in_batches
from .detectors import WholeImage, build_detector, find_persons
from .loading import LoadedModel, choose_device, load_model
from .predictor import Crop, Predictor
from .results import Features, ImageResult
from .sources import Failure, Frame, open_frames

ModelSpec: TypeAlias = str | Path | Config | LoadedModel


class Results:
    """Results of one call of an `Inferencer`, image by image, and what went wrong in that call.

    Attributes:
        failures: Images that could not be read so far, and where a video broke.
        notes: What else is worth knowing, such as files that were left out.
    """

    def __init__(self, results: Generator[ImageResult, None, None], failures: list[Failure], notes: list[str]) -> None:
        self._results, self.failures, self.notes = results, failures, notes

    def __iter__(self) -> Iterator[ImageResult]:
        return self

    def __next__(self) -> ImageResult:
        return next(self._results)

    def close(self) -> None:
        """Stop reading; a loop that is left early does it by itself."""
        self._results.close()


class Inferencer:
    """Runs one or several models on images of any kind.

    ::

        model = Inferencer('pose_308', weights='sapiens_1b_308.safetensors')
        result = model.predict('photo.jpg')
        for result in model('photos/'):
            result.save('out')

    Several threads may call one Inferencer at once: results and failures belong to the call.

    Args:
        models: Name (``'pose_308'``, ``'seg_28_1b'``), config, or a list of them; None: what the weights are.
        weights: Checkpoint, or one per model; published files load as they are. None: those at hand by name.
        device: ``'auto'`` (cuda, mps, cpu), or a device.
        dtype: Of encoder and heads; ``'auto'`` is bfloat16 where GPU or CPU have it, float16 on older GPUs, else
            float32.
        detector: Where the persons are: see `sapiens.apis.detectors.build_detector`. None: each image is one person.
        per_person: Run dense models on each person and paste the results back; else as the test pipeline of their
            config says, which for models with a pose head is on persons for all their tasks.
        batch_size: Crops that run together, over images and persons.
        flip_test: Average with the mirrored image; None = as the configs say.
        part_scores: Keep the probability of the chosen part.
        task: Task of a published dense head, where neither layout nor file name tells.
        allow_partial: Leave out heads that the weights lack.
        compile: Compile encoder and heads: minutes at the first call, faster from then on; batches are filled up to
            ``batch_size``, so that one shape is compiled. Exported files are compiled in any case.

    Attributes:
        origins: Task -> where its published weights are from, and their licence.
        predictors: One per model; see `Predictor` for arrays in, arrays out.
        failures: ``failures`` of the last call's `Results`.

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
        compile: bool = False,
    ) -> None:
        check_number('batch_size', batch_size, 1, whole=True)
        self.device = choose_device(device)
        self.dtype = choose_precision('probe' if dtype == 'auto' else dtype, self.device).dtype
        self.batch_size, self.per_person = batch_size, per_person
        self.detector = build_detector(detector)
        self.predictors: list[Predictor] = []
        self.failures: list[Failure] = []
        self.origins: dict[str, dict[str, str]] = {}
        owners: dict[str, str] = {}
        for model, file in _pairs(models, weights):
            loaded = model if isinstance(model, LoadedModel) else load_model(model, file, None, task, allow_partial)
            pasted = per_person or len(getattr(loaded.network, 'heads', ())) > 1
            predictor = Predictor(loaded, self.device, self.dtype, flip_test, part_scores or pasted)
            if compile and hasattr(loaded.network, 'compile_for'):
                check_compiler({'compile': True})
                loaded.network.compile_for(batch_size)
            for name in predictor.tasks:
                if name in owners:
                    raise UserError(f"{owners[name]} and {loaded.source} both do '{name}': use an Inferencer for each")
                owners[name] = loaded.source
                if loaded.origin:
                    self.origins[name] = loaded.origin
            self.predictors.append(predictor)
        self.tasks = tuple(name for predictor in self.predictors for name in predictor.tasks)

    def __call__(
        self,
        source: Any,
        *,
        color: str | None = None,
        masks: Any = None,
        tasks: str | Sequence[str] | None = None,
        skip_bad: bool = True,
        detect: Any = None,
        limit: int | None = None,
    ) -> Results:
        """Run on a source, image by image, in its order; memory does not grow with the length of the source.

        Files are read, persons found and crops made in a thread beside the network; generators and cameras are read in
        the caller's.

        Args:
            source: See `sapiens.apis.sources.open_frames`.
            color: ``'rgb'`` or ``'bgr'`` of arrays.
            masks: People in the images, which depth and normals are valid on: an array ``(H, W)``, a folder of PNGs
                named like the images, or a callable ``Frame -> (H, W)``. None: the part model's, if one runs.
            tasks: Run only these (or this).
            skip_bad: Go on after an unreadable image of a folder or list and note it in ``failures``; else raise.
            detect: Detector for this call instead of the Inferencer's: boxes, a tracker, whatever ``detector`` takes.

        Raises:
            UserError: The source is missing or unreadable, or a task is asked for that no model does.
        """
        if not self.tasks:
            file = self.predictors[0].source
            raise UserError(f'{file}: is an encoder without heads; use extract(), or demo/mae_demo.py')
        tasks = (tasks,) if isinstance(tasks, str) else tasks
        chosen = tuple(self.tasks if tasks is None else tasks)
        unknown = [name for name in chosen if name not in self.tasks]
        if unknown or not chosen:
            raise UserError(f"no model here does the task '{(unknown or [''])[0]}'; these do {', '.join(self.tasks)}")
        failures: list[Failure] = []
        notes: list[str] = []
        self.failures = failures
        frames = islice(open_frames(source, color, failures if skip_bad else None, notes), limit)
        detect = self.detector if detect is None else build_detector(detect)
        masks = MaskFolder(masks) if isinstance(masks, (str, Path)) else masks
        prepared = (self._prepare(frame, chosen, masks, detect) for frame in frames)
        # Cameras must not be read ahead, and a generator may belong to the caller's thread.
        live = isinstance(source, (int, np.integer)) or hasattr(source, '__next__')
        name = source if isinstance(source, (str, Path)) else 'the source'
        return Results(self._stream(prepared if live else read_ahead(prepared), failures, name), failures, notes)

    def predict(self, source: Any, **options: Any) -> ImageResult:
        """The result of one image.

        Args:
            source: An image of any kind that a call takes.
            **options: As of a call.

        Raises:
            UserError: It is unreadable, none, or several.
        """
        results = list(islice(self(source, **{'skip_bad': False, 'limit': 2, **options}), 2))
        if len(results) != 1:
            raise UserError('predict() is for one image; loop over model(source) for several')
        return results[0]

    def _stream(self, prepared: Iterator, failures: list[Failure], source: Any) -> Generator[ImageResult, None, None]:
        count = 0
        for pending in run_in_batches(self.predictors, prepared, self.batch_size):
            count += 1
            yield assemble(pending, self.origins)
        if not count and not failures:
            raise UserError(f'{source}: gave no image')

    @out_of_surroundings()
    def _prepare(
        self, frame: Frame, tasks: tuple[str, ...], masks: Any, detect: Callable
    ) -> tuple[PendingImage, list[list[Crop]]]:
        """The image with its persons, and the crops for each predictor."""
        pending = PendingImage(frame, None, {}, given_mask(masks, frame))
        crops: list[list[Crop]] = []
        for predictor in self.predictors:
            names = tuple(name for name in predictor.tasks if name in tasks)
            pending.vocabularies.update({name: predictor.vocabularies[name] for name in names})
            new: list[Crop] = []
            if names and (predictor.topdown or self.per_person):
                if pending.persons is None:
                    pending.persons = find_persons(detect, frame)
                for i, (box, score) in enumerate(zip(pending.persons.boxes, pending.persons.scores, strict=True)):
                    new.append(predictor.prepare(frame, box, names, i, score))
                if 'depth' in names and len(new) > 1:
                    # Relative depth of each person is brought to the scale of the whole image's.
                    box = WholeImage()(frame).boxes[0] if predictor.topdown else None
                    new.append(predictor.prepare(frame, box, ('depth',)))
            elif names:
                new.append(predictor.prepare(frame, None, names))
                if 'pose' in names:  # whose pipeline takes the image for one person
                    pending.persons = pending.persons or WholeImage()(frame)
            pending.waiting += len(new)
            crops.append(new)
        return pending, crops

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
        if inputs.ndim != 4 or any(tuple(predictor.input_size) != size for predictor in self.predictors):
            raise UserError(f'inputs are (B, 3, {self.predictors[0].input_size}), not {tuple(inputs.shape)}')
        if images is None:
            images = [np.zeros((*size, 3), np.uint8)] * len(inputs)
        if {len(images), len(inputs if warps is None else warps)} != {len(inputs)}:
            raise UserError(f'{len(inputs)} inputs: give as many images and warps')
        frames = [Frame(image, f'image_{i:06d}', index=i) for i, image in enumerate(images)]
        line = [PendingImage(frame, WholeImage()(frame), {}) for frame in frames]
        facts: list[dict[str, Any]] = [dict(img_shape=size, ori_shape=image.shape[:2]) for image in images]
        for i, warp in enumerate(() if warps is None else warps):
            facts[i]['warp_mat'] = np.asarray(warp, np.float64)[:2]
        for predictor in self.predictors:
            samples = [HumanDataSample(metainfo=known) for known in facts]
            predictor.predict_tensor(inputs.to(self.device, self.dtype), samples)
            for pending, sample in zip(line, samples, strict=True):
                crop = Crop(None, sample, (0, 0, *sample.ori_shape[::-1]), predictor.tasks)
                pending.vocabularies.update(predictor.vocabularies)
                pending.outputs.update(dict.fromkeys(predictor.tasks, [crop]))
        return [assemble(pending, self.origins) for pending in line]

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
        frames = open_frames(source, color, self.failures)
        while batch := list(islice(frames, self.batch_size)):
            yield from self.predictors[0].features(batch, tuple(layers), cls, pooled)


def _pairs(models: Any, weights: Any) -> list[tuple[Any, Any]]:
    names, files = (list(given) if isinstance(given, (list, tuple)) else [given] for given in (models, weights))
    if models is None:
        names = [None] * len(files)
    if weights is None:
        files = [None] * len(names)
    if not names or len(names) != len(files):
        raise UserError(f'{len(names)} models and {len(files)} weights: give one checkpoint for each model')
    return list(zip(names, files, strict=True))
