# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Detectors of other libraries. Each library is imported when its detector is made, never before."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from ..engine.config import load_config
from ..engine.files import read_checkpoint
from ..errors import MissingPackageError, UserError
from ..openmmlab import prepare_toolkit, prepare_torchvision
from ..registry import DETECTORS
from ..utils.optional import need
from .detectors import Detections, least_score, make_detections
from .loading import choose_device
from .sources import Frame


def _library(module: str) -> ModuleType:
    package = module.partition('.')[0]
    hint = '; or use --detector whole, or boxes from a file (--detector file:boxes.json)'
    return need(module, f"the detector '{package}'", package=package, hint=hint)


class LibraryDetector:
    """What detectors of libraries share; a subclass makes its ``model`` and finds the persons of an image.

    Args:
        threshold: Boxes with a lower score are left out.
        device: See `choose_device`.
    """

    def __init__(self, model: Any, threshold: float | str, device: str | torch.device) -> None:
        self.model, self.threshold = model, least_score(threshold)
        self.device = choose_device(device)
        if isinstance(model, torch.nn.Module):
            model.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, frame: Frame) -> Detections:
        """Persons of the image."""
        boxes, scores = self.find(frame.image)
        return make_detections(boxes.cpu(), scores.cpu(), self.threshold, frame.image.shape[:2])

    def find(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes ``(N, 4)`` and scores ``(N,)`` of the persons in an image ``(H, W, 3)`` uint8 RGB."""
        raise NotImplementedError


@DETECTORS.register_module()
class TorchvisionDetector(LibraryDetector):
    """A detector of torchvision trained on COCO, whose class 1 is the person.

    Args:
        name: Function of ``torchvision.models.detection``.
        weights: ``'DEFAULT'`` downloads torchvision's; else a file of them.

    Raises:
        MissingPackageError: torchvision is not installed.
        UserError: Unknown name, or the weights cannot be had.
    """

    def __init__(
        self,
        name: str = 'fasterrcnn_resnet50_fpn_v2',
        weights: str = 'DEFAULT',
        threshold: float = 0.5,
        device: str = 'auto',
    ) -> None:
        if importlib.util.find_spec('torchvision') is not None:
            prepare_torchvision()
        models = _library('torchvision.models.detection')
        if not callable(getattr(models, name, None)):
            raise UserError(f"torchvision has no detector '{name}', e.g. fasterrcnn_resnet50_fpn_v2")
        try:
            if weights == 'DEFAULT':
                model = getattr(models, name)(weights='DEFAULT')
            else:
                model = getattr(models, name)(weights=None, weights_backbone=None)
                model.load_state_dict(read_checkpoint(weights)[0])
        except OSError as error:
            raise UserError(f"the weights of torchvision's {name} cannot be downloaded ({error}); download them "
                            "elsewhere and give the file: --detector torchvision:NAME,FILE") from None  # fmt: skip
        except RuntimeError as error:
            raise UserError(f"{weights}: not the weights of torchvision's {name} ({str(error)[:100]})") from None
        super().__init__(model, threshold, device)

    def find(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Persons of the image."""
        found = self.model([torch.from_numpy(image).permute(2, 0, 1).to(self.device).float() / 255])[0]
        person = found['labels'] == 1
        return found['boxes'][person], found['scores'][person]


def load_transformers(
    name: str, kind: str, device: str, processor: str = 'AutoImageProcessor'
) -> tuple[Any, Any, torch.device]:
    """Processor, model and device of a model of Hugging Face transformers.

    Args:
        name: Model on the hub, or a folder; its weights must be safetensors.
        kind: Class of the library that makes the model.
        device: See `choose_device`.
        processor: Class that makes its processor.

    Raises:
        MissingPackageError: transformers is not installed.
        UserError: The model cannot be had: no such name, no network, files that are damaged or do not fit.
    """
    if importlib.util.find_spec('torchvision') is not None:
        prepare_torchvision()
    library = need('transformers', f"the model '{name}'", package='transformers')
    try:
        tool = getattr(library, processor).from_pretrained(name)
        network = getattr(library, kind).from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = 'it is no folder here, and the hub does not answer or has none of that name'
        if Path(name).is_dir():
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:160]
        raise UserError(f"the model '{name}' cannot be loaded ({reason}); give a folder that has it") from None
    chosen = choose_device(device)
    return tool, network.eval().to(chosen), chosen


@DETECTORS.register_module()
class TransformersDetector(LibraryDetector):
    """Any object detector of Hugging Face transformers that knows persons, e.g. RT-DETR.

    Args:
        name: Model on the hub, or a folder; its weights must be safetensors.

    Raises:
        MissingPackageError: transformers is not installed.
        UserError: The model cannot be had, or has no class of persons.
    """

    def __init__(self, name: str = 'PekingU/rtdetr_r50vd', threshold: float = 0.5, device: str = 'auto') -> None:
        self.processor, model, chosen = load_transformers(name, 'AutoModelForObjectDetection', device)
        self.person = {int(i) for i, label in model.config.id2label.items() if str(label).lower() == 'person'}
        if not self.person:
            raise UserError(f"the detector '{name}' has no class 'person'")
        super().__init__(model, threshold, chosen)

    def find(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Persons of the image."""
        inputs = self.processor(images=image, return_tensors='pt', input_data_format='channels_last')
        outputs = self.model(**{key: value.to(self.device) for key, value in inputs.items()})
        sizes = [image.shape[:2]]
        found = self.processor.post_process_object_detection(outputs, threshold=self.threshold, target_sizes=sizes)[0]
        person = [i for i, label in enumerate(found['labels'].tolist()) if label in self.person]
        return found['boxes'][person], found['scores'][person]


@DETECTORS.register_module()
class MMDetDetector(LibraryDetector):
    """A detector of mmdet trained on COCO (class 0 is the person), e.g. RTMDet. It needs mmcv with its operators.

    Raises:
        MissingPackageError: mmdet, or mmcv with operators, is not installed.
        UserError: No config or weights, or weights of another model.
    """

    def __init__(
        self, config: str | None = None, checkpoint: str | None = None, threshold: float = 0.3, device: str = 'auto'
    ) -> None:
        if not config or not checkpoint:
            raise UserError('mmdet needs its config and weights: --detector mmdet:CONFIG,CHECKPOINT')
        prepare_toolkit('mmdet')
        if importlib.util.find_spec('mmcv._ext') is None:
            raise MissingPackageError(
                'mmdet needs the compiled operators of mmcv, and this is mmcv-lite: install mmcv instead of it, or '
                'use another detector'
            )
        from mmdet.registry import MODELS as MMDET_MODELS
        from mmdet.utils import register_all_modules

        register_all_modules(init_default_scope=False)
        loaded = load_config(config)
        model = MMDET_MODELS.build({**loaded.model, '_scope_': 'mmdet'})
        missing = model.load_state_dict(read_checkpoint(checkpoint)[0], strict=False).missing_keys
        if missing:
            raise UserError(
                f"{checkpoint}: not the weights of {config}: '{missing[0]}' is missing among {len(missing)}"
            )
        model.cfg = loaded
        super().__init__(model, threshold, device)

    def find(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Persons of the image."""
        from mmdet.apis import inference_detector

        found = inference_detector(self.model, np.ascontiguousarray(image[..., ::-1])).pred_instances
        person = found.labels == 0
        return found.bboxes[person], found.scores[person]


@DETECTORS.register_module()
class UltralyticsDetector(LibraryDetector):
    """A detector of ultralytics (YOLO) whose class 0 is the person.

    Mind that ultralytics is under the AGPL and unpickles its weight files: use files that you trust.

    Raises:
        MissingPackageError: ultralytics is not installed.
        UserError: No such file.
    """

    def __init__(self, weights: str = 'yolo11n.pt', threshold: float = 0.3, device: str = 'auto') -> None:
        library = _library('ultralytics')
        if not Path(weights).is_file():
            raise UserError(f'{weights}: no such weights of ultralytics; give the file: --detector ultralytics:FILE')
        super().__init__(library.YOLO(weights), threshold, device)

    def find(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Persons of the image."""
        picture = np.ascontiguousarray(image[..., ::-1])
        found = self.model.predict(picture, classes=[0], conf=self.threshold, device=str(self.device), verbose=False)
        return found[0].boxes.xyxy, found[0].boxes.conf
