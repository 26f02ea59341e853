# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""AP and AR of keypoints for any vocabulary, by parts, against a COCO-style file or the samples' own labels."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..structures.coco import AREA_OF_BOX, CocoFile, CocoImage, CocoPerson, Notes, id_key, read_coco
from ..structures.coco_results import CocoResult
from ..structures.geometry import to_original
from ..vocabularies import KeypointVocabulary
from .base import HumanMetric, field, sample_name, to_numpy
from .oks import FIGURES, MAX_DETECTIONS, Detections, Labels, PointSet
from .persons import PointConversion, box_gives_area, check_score_mode, common_points, extent, oks_nms, person_score
from .report import EvaluationReport
from .tables import UNDEFINED, Table

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
        category: Name or id of the category of ``ann_file`` that is a person; None goes by the file's names.
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
        category: str | int | None = None,
        score_mode: str = 'bbox_keypoint',
        keypoint_threshold: float = 0.2,
        nms_threshold: float | None = 0.9,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if points not in ('all', 'common'):
            raise UserError(f"KeypointAP: points is '{points}'; it is 'all' or 'common'")
        check_score_mode(score_mode, 'KeypointAP')
        self.convert = PointConversion(vocabulary, gt_vocabulary)
        self.vocabulary, self.gt_vocabulary = self.convert.source, self.convert.target
        self.points = points
        self.score_mode = score_mode
        self.keypoint_threshold = keypoint_threshold
        self.nms_threshold = nms_threshold
        self.ann_file = ann_file
        self.labels = None if ann_file is None else labelled(read_coco(ann_file, self.gt_vocabulary, category))
        self.scored = self.convert.scored
        self.sigmas = self.gt_vocabulary.sigmas.astype(np.float64)
        if points == 'common':
            common = common_points(self.gt_vocabulary)
            self.scored = np.array([i for i in self.scored if i in common], np.int64)
            self.sigmas[list(common)] = list(common.values())

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
            keypoints=keypoints,
            scores=scores,
            ann_id=sample.get('ann_id'),
            bbox_score=1.0 if sample.get('bbox_score') is None else float(sample['bbox_score']),
        )
        if sample.get('bbox') is not None:
            x1, y1, x2, y2 = to_numpy(sample['bbox']).astype(np.float64).reshape(-1)[:4]
            record['bbox'] = np.array([x1, y1, x2 - x1, y2 - y1])
        if self.labels is None:
            record['label'] = self._label(sample, record.get('bbox'))
        return record

    def _label(self, sample: dict, box: np.ndarray | None) -> CocoPerson:
        visible = field(sample, 'gt_keypoints_visible', 'KeypointAP without ann_file').astype(np.float64).reshape(-1)
        points = to_original(field(sample, 'gt_keypoints', 'KeypointAP'), sample.get('warp_mat')).reshape(-1, 2)
        if len(points) != self.gt_vocabulary.num_keypoints:
            raise UserError(
                f'{sample_name(sample)}: {len(points)} keypoints labelled, but vocabulary '
                f"'{self.gt_vocabulary.name}' has {self.gt_vocabulary.num_keypoints}"
            )
        box = extent(points[visible > 0]) if box is None else box
        area = box[2:].prod() * AREA_OF_BOX if sample.get('area') is None else sample['area']
        keypoints = np.concatenate([points, visible[:, None]], 1)
        return CocoPerson(sample.get('ann_id'), sample.get('img_id'), box, keypoints, float(area))

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Score, suppress duplicates, evaluate."""
        labels = self.labels
        if labels is None:
            images = {r['image']: CocoImage(r['image'], str(r['path'])) for r in records}
            persons = [r['label'] for r in records]
            labels = labelled(CocoFile('the labels of the samples', images, persons, None, Notes()))
        results = [self._result(record) for record in records]
        above = f' (keypoint scores > {self.keypoint_threshold})' if self.score_mode == 'bbox_keypoint' else ''
        report = self.evaluate_results(results, labels, self.nms_threshold, self.score_mode + above)
        paths = {record['image']: record['path'] for record in records}
        for row in [*report.per_image, *(sample for _, sample in self.worst)]:
            row['img_path' if 'pairs' in row else 'file'] = paths.get(row.get('image', row.get('img_id')))
        return report

    def evaluate_results(
        self,
        results: list[CocoResult],
        labels: CocoFile | None = None,
        nms_threshold: float | None = None,
        score_text: str = 'as in the results',
    ) -> EvaluationReport:
        """Evaluate persons whose scores are final (points in ``vocabulary``) against labelled ones.

        Args:
            results: Of any images of ``labels``.
            labels: None takes those of ``ann_file``.
            nms_threshold: Suppress duplicates above this OKS; None suppresses none.
            score_text: What the protocol says of the scores.

        Raises:
            UserError: Images that the labels do not have, or no labelled person.
        """
        labels = labelled(self.labels if labels is None else labels)
        given = len(results)
        if nms_threshold is not None:
            results = self._suppress(results, nms_threshold)
        order = sorted(labels.images, key=lambda i: (isinstance(i, str), i))
        arrays = self._labels(labels, order), self._detections(results, order, labels)
        metrics: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        rows: list[list] = []
        table = Table('Keypoint AP and AR', ['Part', *FIGURES], rows, kind='fraction')
        sets = {}
        for part, points in self._parts().items():
            name = 'wholebody' if part == WHOLE else part.replace('_', '')  # of a part's own score in result files
            scores = np.array([result.part_scores.get(name, result.score) for result in results], np.float64)
            sets[part] = PointSet(*arrays, scores, points, self.sigmas[points], len(order))
            found = sets[part].figures()
            bounds = self.intervals(len(order), sets[part].figures)
            prefix = '' if part == WHOLE else f'{part}_'
            metrics.update({prefix + figure: value for figure, value in found.items()})
            intervals.update({prefix + figure: value for figure, value in bounds.items()})
            rows.append([part, *found.values()])
            table.intervals.update({(part, figure): value for figure, value in bounds.items()})
        self._add_hand(metrics, rows)
        if len(rows) > 1:
            # As the paper orders them: parts first, all points last.
            rows.append(rows.pop(0))
        best = sets[WHOLE].best()
        people = [p for p in labels.persons if p.bbox is not None]
        per_image, notes = self._by_image(best, order, labels, {result.image_id for result in results})
        self._keep_worst(per_image, best, order, people, results)
        nms = 'none' if nms_threshold is None else f'OKS > {nms_threshold:g}, {given - len(results)} removed'
        sigmas = ' with the sigmas of COCO-WholeBody' if self.points == 'common' else ''
        protocol = {
            'labels': f'{labels.path}: {len(order)} images, {len(people)} persons',
            'predictions': f'{given} persons; scores: {score_text}; suppression: {nms}',
            'keypoints': f'{self.convert}, {len(self.scored)} points scored{sigmas}',
            'figures': 'OKS-AP / AR at 0.50:0.05:0.95, 101 recall levels, '
            f'at most {MAX_DETECTIONS} detections an image; M 32^2 to 96^2, L above 96^2 square pixels; '
            'parts evaluated as sets of their own, hand = mean of both',
        }
        notes += [f'{labels.path}: {note}' for note in labels.notes] + _undefined(rows)
        tables = [table, self._by_keypoint(best, people, results)]
        return self.make_report(metrics, protocol, tables, notes, intervals, per_image)

    def _result(self, record: dict) -> CocoResult:
        score = person_score(record['scores'], record['bbox_score'], self.score_mode, self.keypoint_threshold)
        box = record.get('bbox')
        area_box = box if box_gives_area(self.gt_vocabulary) else None
        return CocoResult(
            record['image'], record['keypoints'], record['scores'], score, area_box, box, {}, record['ann_id']
        )

    def _suppress(self, results: list[CocoResult], threshold: float) -> list[CocoResult]:
        by_image: dict[Hashable, list[CocoResult]] = {}
        for result in results:
            by_image.setdefault(result.image_id, []).append(result)
        kept = []
        for group in by_image.values():
            boxes = [next((b for b in (r.person_box, r.bbox) if b is not None), extent(r.keypoints)) for r in group]
            areas, scores = np.array([box[2:].prod() for box in boxes]), np.array([r.score for r in group])
            points = np.stack([r.keypoints for r in group])
            kept += [group[i] for i in sorted(oks_nms(points, scores, areas, self.vocabulary.sigmas, threshold))]
        return kept

    def _labels(self, labels: CocoFile, order: list) -> Labels:
        """Every person with a box; one without labelled points never counts."""
        number, count = {image: i for i, image in enumerate(order)}, self.gt_vocabulary.num_keypoints
        people = [p for p in labels.persons if p.bbox is not None]
        points = [np.zeros((count, 3)) if p.keypoints is None else p.keypoints for p in people]
        return Labels(
            np.array([number[p.image_id] for p in people], np.int64),
            np.array(points, np.float64).reshape(-1, count, 3),
            np.array([p.bbox for p in people], np.float64).reshape(-1, 4),
            np.array([p.area for p in people], np.float64),
            np.array([p.crowd for p in people], bool),
        )

    def _detections(self, results: list[CocoResult], order: list, labels: CocoFile) -> Detections:
        """The results in the labels' vocabulary; the area is that of the box, else of the extent of the body."""
        number, count = {id_key(image): i for i, image in enumerate(order)}, self.gt_vocabulary.num_keypoints
        unknown = sorted({str(r.image_id) for r in results if id_key(r.image_id) not in number})
        if unknown:
            raise UserError(
                f'predictions: {len(unknown)} image ids are not in {labels.path} (first: {", ".join(unknown[:3])}; it '
                f'has {", ".join(map(str, order[:3]))}, ...); predictions and annotations must be of the same images'
            )
        body = [i for i in self.gt_vocabulary.groups.get('body', ()) if i in self.scored] or list(self.scored)
        converted = [self.convert(r.keypoints, r.keypoint_scores) for r in results]
        points = np.array([p for p, _ in converted], np.float64).reshape(-1, count, 2)
        boxes = [extent(p[body]) if r.bbox is None else r.bbox for r, p in zip(results, points, strict=True)]
        return Detections(
            np.array([number[id_key(r.image_id)] for r in results], np.int64),
            points,
            np.array([s > 0 for _, s in converted], bool).reshape(-1, count),
            np.array([box[2:].prod() for box in boxes], np.float64),
        )

    def _parts(self) -> dict[str, np.ndarray]:
        """Ids of the scored points by part, all of them first."""
        groups = {name: np.array([i for i in ids if i in self.scored], np.int64)
                  for name, ids in self.gt_vocabulary.groups.items()}  # fmt: skip
        groups = {name: ids for name, ids in groups.items() if len(ids)}
        return {WHOLE: self.scored} | groups if len(groups) > 1 else {WHOLE: self.scored}

    @staticmethod
    def _add_hand(metrics: dict[str, float], rows: list[list]) -> None:
        hands = [row[1:] for row in rows if row[0] in ('left_hand', 'right_hand')]
        if len(hands) == 2:
            means = [UNDEFINED if UNDEFINED in pair else float(np.mean(pair)) for pair in zip(*hands, strict=True)]
            rows.append(['hand', *means])
            metrics.update({f'hand_{name}': value for name, value in zip(FIGURES, means, strict=True)})

    @staticmethod
    def _by_image(best: list, order: list, labels: CocoFile, predicted: set) -> tuple[list[dict], list[str]]:
        """One row per image with persons that count (mean of their best OKS), and notes on images left empty."""
        scores: dict[int, list[float]] = {}
        for image, _, _, oks in best:
            scores.setdefault(image, []).append(oks)
        rows = [
            {'image': order[i], 'file': labels.images[order[i]].file_name, 'persons': len(v), 'oks': float(np.mean(v))}
            for i, v in scores.items()
        ]
        without = sum(id_key(row['image']) not in set(map(id_key, predicted)) for row in rows)
        notes = []
        if without:
            notes.append(f'{without} of {len(rows)} images with labelled persons have no prediction: all missed')
        if len(rows) < len(order):
            notes.append(f'{len(order) - len(rows)} images have no labelled person; detections there count as false')
        return rows, notes

    def _keep_worst(
        self, rows: list[dict], best: list, order: list, people: list[CocoPerson], results: list[CocoResult]
    ) -> None:
        """The images with the lowest OKS, each with pairs of labelled and predicted points of its persons."""
        self.worst = []
        for row in sorted(rows, key=lambda row: row['oks'])[: self.keep_worst]:
            pairs = [
                (people[person].keypoints, None if found is None else self.convert(results[found].keypoints)[0])
                for image, person, found, _ in best
                if order[image] == row['image']
            ]
            self.worst.append((1 - row['oks'], {'img_id': row['image'], 'img_path': row['file'], 'pairs': pairs}))

    def _by_keypoint(self, best: list, people: list[CocoPerson], results: list[CocoResult]) -> Table:
        """How many are labelled and the mean similarity of the best detections; missed persons count 0."""
        count, total = np.zeros(len(self.sigmas), np.int64), np.zeros(len(self.sigmas))
        for _, person, found, _ in best:
            label = people[person]
            seen = label.keypoints[:, 2] > 0
            count += seen
            if found is not None:
                distance = ((self.convert(results[found].keypoints)[0] - label.keypoints[:, :2]) ** 2).sum(1)
                total += seen * np.exp(-distance / (self.sigmas * 2) ** 2 / (label.area + np.spacing(1)) / 2)
        names = self.gt_vocabulary.names
        rows = [[names[i], int(count[i]), float(total[i] / count[i]) if count[i] else None] for i in self.scored]
        title = 'Keypoints (KS: similarity with the best detection of each person)'
        return Table(title, ['Keypoint', 'labelled', 'KS'], rows, kind={'KS': 'fraction'})


def labelled(labels: CocoFile) -> CocoFile:
    """The file, if somebody in it counts.

    Raises:
        UserError: Nobody has a labelled keypoint.
    """
    if all(person.ignored for person in labels.persons):
        raise UserError(f'{labels.path}: no person has a labelled keypoint; nothing can be evaluated against it')
    return labels


def _undefined(rows: list[list]) -> list[str]:
    """Why figures of the table are n/a."""
    missing = [f'{row[0]} {name}' for row in rows for name, v in zip(FIGURES, row[1:], strict=True) if v == UNDEFINED]
    return [f'no labelled person for {", ".join(missing)}: n/a here, -1 in files as in COCO'] if missing else []
