# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""AP and AR of keypoints for any vocabulary, by parts, against a COCO-style file or the samples' own labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..structures.geometry import to_original
from ..vocabularies import KeypointVocabulary, keypoint_map, load_vocabulary
from .base import HumanMetric, field, sample_name, to_numpy
from .coco_files import AREA_OF_BOX, Detection, Person, PersonSet, box_gives_area, person_score, read_persons
from .keypoint_tables import ImageOKS, image_table, keypoint_table, undefined_notes, worst_images
from .oks import (
    AREA_RANGES,
    FIGURES,
    MAX_DETECTIONS,
    UNDEFINED,
    ImageMatches,
    PooledMatches,
    figures,
    match_image,
    oks_matrix,
    oks_nms,
)
from .report import EvaluationReport
from .tables import Table

WHOLE = 'whole'


@METRICS.register_module()
class KeypointAP(HumanMetric):
    """OKS-AP and AR, mean, at 0.50 and 0.75, of medium and large persons, for each part and for all points.

    A part is a group of the vocabulary; ``hand`` is the mean of the left and the right hand. Each part is evaluated
    as a keypoint set of its own (persons without a labelled point in it do not count). The figures equal those of
    pycocotools for 17 points and of xtcocotools for COCO-WholeBody.

    Args:
        ann_file: COCO-style annotation file to score against; None takes the labels from the samples (ground-truth
            boxes only, since persons that no sample shows cannot be missed).
        vocabulary: Vocabulary of the predictions.
        gt_vocabulary: Vocabulary of ``ann_file`` when it is another one; predictions are converted and only points
            that both have are scored (308 -> 133: the paper's 114 common points).
        points: ``'all'``, or ``'common'``: only the 114 points that ``keypoints308`` and ``wholebody133`` share (those
            of them that the scored vocabulary has), so that models of 133 and 308 points compare.
        score_mode: Score of a person: ``'bbox_keypoint'`` = box score x mean of the keypoint scores above
            ``keypoint_threshold``; ``'keypoint'`` = mean of all keypoint scores; ``'bbox'`` = box score.
        keypoint_threshold: In [0, 1].
        nms_threshold: OKS above which the worse of two persons is a duplicate; None suppresses none.
        kwargs: See `HumanMetric`.
    """

    default_prefix = 'pose'
    task = 'pose'

    def __init__(
        self,
        ann_file: str | Path | None = None,
        vocabulary: str | KeypointVocabulary = 'coco17',
        gt_vocabulary: str | KeypointVocabulary | None = None,
        points: str = 'all',
        score_mode: str = 'bbox_keypoint',
        keypoint_threshold: float = 0.2,
        nms_threshold: float | None = 0.9,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if points not in ('all', 'common'):
            raise UserError(f"KeypointAP: points is '{points}'; it is 'all' or 'common'")
        if score_mode not in ('bbox_keypoint', 'keypoint', 'bbox'):
            raise UserError(f"KeypointAP: score_mode '{score_mode}' is none of 'bbox_keypoint', 'keypoint', 'bbox'")
        self.vocabulary = load_vocabulary(vocabulary)
        self.gt_vocabulary = load_vocabulary(gt_vocabulary or self.vocabulary)
        self.points = points
        self.score_mode = score_mode
        self.keypoint_threshold = keypoint_threshold
        self.nms_threshold = nms_threshold
        self.ann_file = ann_file
        self.persons = None if ann_file is None else read_persons(ann_file, self.gt_vocabulary)
        self.sources = keypoint_map(self.vocabulary, self.gt_vocabulary, derived=False)
        self.scored = set(self.sources)
        self.sigmas = self.gt_vocabulary.sigmas.astype(np.float64)
        if points == 'common':
            common = common_points(self.gt_vocabulary)
            self.scored &= set(common)
            for point, sigma in common.items():
                self.sigmas[point] = sigma

    def measure(self, sample: dict) -> dict:
        """Keep the person's points (original image pixels), scores and box; its labels too without ``ann_file``."""
        keypoints = field(sample, 'pred_keypoints', 'KeypointAP').astype(np.float64).reshape(-1, 2)
        scores = field(sample, 'pred_keypoint_scores', 'KeypointAP').astype(np.float64).reshape(-1)
        if len(keypoints) != self.vocabulary.num_keypoints or len(scores) != len(keypoints):
            raise UserError(
                f'{sample_name(sample)}: {len(keypoints)} keypoints and {len(scores)} scores predicted, but vocabulary '
                f"'{self.vocabulary.name}' has {self.vocabulary.num_keypoints}"
            )
        record = dict(
            image=sample.get('img_id'),
            path=sample.get('img_path'),
            keypoints=keypoints,
            scores=scores,
            ann_id=sample.get('ann_id'),
            bbox_score=1.0 if sample.get('bbox_score') is None else float(sample['bbox_score']),
        )
        if sample.get('bbox') is not None:
            x1, y1, x2, y2 = to_numpy(sample['bbox']).astype(np.float64).reshape(-1)[:4]
            record['bbox'] = np.array([x1, y1, x2 - x1, y2 - y1])
        if self.persons is None:
            visible = (
                field(sample, 'gt_keypoints_visible', 'KeypointAP without ann_file').astype(np.float64).reshape(-1)
            )
            points = to_original(field(sample, 'gt_keypoints', 'KeypointAP'), sample.get('warp_mat')).reshape(-1, 2)
            if len(points) != self.gt_vocabulary.num_keypoints:
                raise UserError(
                    f'{sample_name(sample)}: {len(points)} keypoints labelled, but vocabulary '
                    f"'{self.gt_vocabulary.name}' has {self.gt_vocabulary.num_keypoints}"
                )
            record['gt'] = np.concatenate([points, visible[:, None]], 1)
            record['gt_bbox'] = record.get('bbox', _extent(points[visible > 0]))
            record['gt_area'] = float(
                record['gt_bbox'][2:].prod() * AREA_OF_BOX if sample.get('area') is None else sample['area']
            )
        return record

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Score, suppress duplicates, evaluate."""
        persons = self.persons or _persons_of(records)
        detections = [self._detection(record) for record in records]
        above = f' (keypoint scores > {self.keypoint_threshold})' if self.score_mode == 'bbox_keypoint' else ''
        report = self.evaluate_detections(detections, persons, self.nms_threshold, self.score_mode + above)
        paths = {record['image']: record['path'] for record in records}
        for row in [*report.per_image, *(sample for _, sample in self.worst)]:
            row['img_path' if 'pairs' in row else 'file'] = paths.get(row.get('image', row.get('img_id')))
        return report

    def evaluate_detections(
        self,
        detections: list[Detection],
        persons: PersonSet | None = None,
        nms_threshold: float | None = None,
        score_text: str = 'as in the results',
    ) -> EvaluationReport:
        """Evaluate detections whose scores are final (points in ``vocabulary``) against labelled persons.

        Args:
            detections: Of any images of ``persons``.
            persons: Labels; None takes those of ``ann_file``.
            nms_threshold: Suppress duplicates above this OKS; None suppresses none.
            score_text: What the protocol says of the scores.

        Raises:
            UserError: Image ids that the labels do not have.
        """
        persons = persons or self.persons
        persons.check_ids((d.image_id for d in detections), 'predictions')
        given = len(detections)
        if nms_threshold is not None:
            detections = self._suppress(detections, nms_threshold)
        by_image: dict = defaultdict(list)
        for detection in detections:
            by_image[detection.image_id].append(self._convert(detection))
        images = {i: self._arrays(by_image.get(i, []), persons.persons[i]) for i in persons.image_ids}
        parts = self._parts()
        metrics: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        rows = []
        table = Table('Keypoint AP and AR', ['Part', *FIGURES], rows, kind='fraction')
        whole_oks: dict = {}
        for part, indices in parts.items():
            pools, oks = self._evaluate_part(part, indices, images)
            found = figures(pools)
            bounds = self.intervals(len(persons.images), lambda w, pool=pools['all']: figures({'all': pool}, w))
            prefix = '' if part == WHOLE else f'{part}_'
            metrics.update({prefix + name: value for name, value in found.items()})
            intervals.update({prefix + name: value for name, value in bounds.items()})
            rows.append([part, *(found[name] for name in FIGURES)])
            table.intervals.update({(part, name): value for name, value in bounds.items()})
            if part == WHOLE:
                whole_oks = oks
        self._add_hand(metrics, rows)
        if len(rows) > 1:
            # As the paper orders them: parts first, all points last.
            rows.append(rows.pop(0))
        per_image, notes = image_table(persons, whole_oks)
        self.worst = worst_images(per_image, persons, whole_oks, self.keep_worst)
        return EvaluationReport(
            metric=type(self).__name__,
            task=self.task,
            metrics=metrics,
            protocol=self._protocol(persons, given, len(detections), len(parts[WHOLE]), score_text, nms_threshold),
            tables=[
                table,
                keypoint_table(self.gt_vocabulary.names, self.sigmas, sorted(self.scored), persons, whole_oks),
            ],
            notes=notes + undefined_notes(rows),
            intervals=intervals,
            per_image=per_image,
        )

    def _detection(self, record: dict) -> Detection:
        score = person_score(record['scores'], record['bbox_score'], self.score_mode, self.keypoint_threshold)
        box = record.get('bbox')
        area_box = box if box_gives_area(self.gt_vocabulary) else None
        return Detection(
            record['image'], record['keypoints'], record['scores'], score, area_box, box, {}, record['ann_id']
        )

    def _suppress(self, detections: list[Detection], threshold: float) -> list[Detection]:
        by_image: dict = defaultdict(list)
        for detection in detections:
            by_image[detection.image_id].append(detection)
        kept = []
        for group in by_image.values():
            points = np.stack([d.keypoints for d in group])
            areas = np.array([self._box_of(d)[2:].prod() for d in group])
            scores = np.array([d.score for d in group])
            indices = oks_nms(points, scores, areas, self.vocabulary.sigmas, threshold)
            kept += [group[i] for i in sorted(indices)]
        return kept

    @staticmethod
    def _box_of(detection: Detection) -> np.ndarray:
        for box in (detection.person_box, detection.bbox):
            if box is not None:
                return box
        return _extent(detection.keypoints)

    def _convert(self, detection: Detection) -> Detection:
        """The detection in the vocabulary that is scored; points that it cannot have are never looked at."""
        if self.vocabulary.name == self.gt_vocabulary.name:
            return detection
        points = np.zeros((self.gt_vocabulary.num_keypoints, 2))
        scores = np.zeros(self.gt_vocabulary.num_keypoints)
        for target, sources in self.sources.items():
            points[target] = detection.keypoints[list(sources)].mean(0)
            scores[target] = detection.keypoint_scores[list(sources)].min()
        return replace(detection, keypoints=points, keypoint_scores=scores)

    def _parts(self) -> dict[str, np.ndarray]:
        """Indices by part in the scored vocabulary, all points first."""
        groups = {
            name: np.array([i for i in indices if i in self.scored], np.int64)
            for name, indices in self.gt_vocabulary.groups.items()
        }
        groups = {name: indices for name, indices in groups.items() if len(indices)}
        whole = {WHOLE: np.array(sorted(self.scored), np.int64)}
        return whole | groups if len(groups) > 1 else whole

    def _arrays(self, detections: list[Detection], people: list[Person]) -> _ImageArrays:
        """One image as arrays, which every part is cut out of."""
        count = self.gt_vocabulary.num_keypoints
        body = [i for i in self.gt_vocabulary.groups.get('body', ()) if i in self.scored] or sorted(self.scored)
        return _ImageArrays(
            detections,
            np.array([d.keypoints for d in detections]).reshape(-1, count, 2),
            np.array([d.keypoint_scores > 0 for d in detections], bool).reshape(-1, count),
            np.array([(_extent(d.keypoints[body]) if d.bbox is None else d.bbox)[2:].prod() for d in detections]),
            np.array([p.keypoints for p in people]).reshape(-1, count, 3),
            np.array([p.bbox for p in people]).reshape(-1, 4),
            np.array([p.area for p in people]),
            np.array([p.crowd for p in people], bool),
        )

    def _evaluate_part(
        self, part: str, indices: np.ndarray, images: dict[Hashable, _ImageArrays]
    ) -> tuple[dict[str, PooledMatches], dict[Hashable, ImageOKS]]:
        """Matches of one part in every area range, and the OKS of every image."""
        sigmas = self.sigmas[indices]
        matches: dict[str, list[ImageMatches]] = {name: [] for name in AREA_RANGES}
        all_oks = {}
        for image, one in images.items():
            scores = np.array([d.part_scores.get(_score_name(part), d.score) for d in one.detections], np.float64)
            # As xtcocotools: a detection that says of no point of the part that it sees it is none of the part.
            keep = np.flatnonzero(one.seen[:, indices].any(1) | ~one.seen.any(1))
            keep = keep[np.argsort(-scores[keep], kind='stable')[:MAX_DETECTIONS]]
            labels = one.labels[:, indices]
            ignore = one.crowd | ~(labels[..., 2] > 0).any(1)
            oks = oks_matrix(one.points[keep][:, indices], labels, one.boxes, one.person_areas, sigmas)
            all_oks[image] = ImageOKS(oks, [one.detections[i] for i in keep], ignore)
            for name, area_range in AREA_RANGES.items():
                matches[name].append(
                    match_image(oks, scores[keep], one.areas[keep], one.person_areas, ignore, one.crowd, area_range)
                )
        return {name: PooledMatches.pool(group) for name, group in matches.items()}, all_oks

    def _sigma_text(self) -> str:
        return ' with the sigmas of COCO-WholeBody' if self.points == 'common' else ''

    def _add_hand(self, metrics: dict[str, float], rows: list[list]) -> None:
        hands = [row for row in rows if row[0] in ('left_hand', 'right_hand')]
        if len(hands) != 2:
            return
        means = [
            UNDEFINED if UNDEFINED in pair else float(np.mean(pair))
            for pair in zip(hands[0][1:], hands[1][1:], strict=True)
        ]
        rows.append(['hand', *means])
        metrics.update({f'hand_{name}': value for name, value in zip(FIGURES, means, strict=True)})

    def _protocol(
        self, persons: PersonSet, given: int, kept: int, scored: int, score_text: str, nms_threshold: float | None
    ) -> dict[str, str]:
        names = self.vocabulary.name
        if self.vocabulary.name != self.gt_vocabulary.name:
            names = f'{self.vocabulary.name} converted to {self.gt_vocabulary.name}'
        people = sum(len(group) for group in persons.persons.values())
        nms = 'none' if nms_threshold is None else f'OKS > {nms_threshold:g}, {given - kept} removed'
        protocol = {
            'labels': f'{persons.source}: {len(persons.images)} images, {people} persons',
            'predictions': f'{given} persons; scores: {score_text}; suppression: {nms}',
            'keypoints': f'{names}, {scored} points scored' + self._sigma_text(),
            'figures': 'OKS-AP / AR at 0.50:0.05:0.95, 101 recall levels, at most 20 detections an image; '
            'M 32^2 to 96^2, L above 96^2 square pixels; parts evaluated as sets of their own, hand = mean of both',
        }
        if self.bootstrap:
            protocol['intervals'] = f'95 %, bootstrap over images, {self.bootstrap} resamples, seed {self.seed}'
        return protocol


@dataclass
class _ImageArrays:
    """Detections and persons of an image: points, which of them are seen, areas; labels, boxes, areas, crowds."""

    detections: list[Detection]
    points: np.ndarray
    seen: np.ndarray
    areas: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    person_areas: np.ndarray
    crowd: np.ndarray


def common_points(vocabulary: KeypointVocabulary) -> dict[int, float]:
    """The 114 points that 308 and 133 points have in common: id in a vocabulary -> sigma.

    The vocabularies give some face points different sigmas. Where these points are compared, those of COCO-WholeBody
    hold for both, so that the same persons score the same.
    """
    whole_body = load_vocabulary('wholebody133')
    mapping = keypoint_map('keypoints308', whole_body, derived=False)
    if vocabulary.name == 'keypoints308':
        return {source: float(whole_body.sigmas[t]) for t, sources in mapping.items() for source in sources}
    known = keypoint_map(whole_body, vocabulary, derived=False)
    return {t: float(vocabulary.sigmas[t]) for t, (source,) in known.items() if source in mapping}


def _extent(points: np.ndarray) -> np.ndarray:
    """Box x, y, width, height around points; zeros for none."""
    if not len(points):
        return np.zeros(4)
    low, high = points.min(0), points.max(0)
    return np.concatenate([low, high - low])


def _score_name(part: str) -> str:
    """Name of a part's own score in result files, as COCO-WholeBody has it (``lefthand_score``)."""
    return 'wholebody' if part == WHOLE else part.replace('_', '')


def _persons_of(records: list[dict]) -> PersonSet:
    """Labels carried by the samples themselves."""
    images: dict = {}
    persons: dict = defaultdict(list)
    for number, record in enumerate(records):
        images[record['image']] = {'id': record['image'], 'file_name': record['path']}
        name = number if record['ann_id'] is None else record['ann_id']
        persons[record['image']].append(Person(name, record['gt'], record['gt_bbox'], record['gt_area']))
    if not any((record['gt'][:, 2] > 0).any() for record in records):
        raise UserError('KeypointAP: no sample has a labelled keypoint; nothing can be evaluated')
    return PersonSet(images, persons, 'the labels of the samples')
