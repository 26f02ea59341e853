# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""AP and AR of keypoints for any vocabulary, by parts, against a COCO-style file or the samples' own labels."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.storage import readable_name
from ..errors import UserError
from ..registry import METRICS
from ..structures.coco import CocoFile, CocoImage, CocoPerson, read_coco
from ..structures.coco_entries import AREA_OF_BOX, Notes, id_key
from ..structures.coco_results import CocoResult
from ..utils.file_names import may_be_same
from ..vocabularies import KeypointVocabulary
from .base import box_of, field, image_of, sample_name
from .oks import FIGURES, MAX_DETECTIONS, PointSet
from .persons import SCORE_MODES, KeypointMetric, box_gives_area, common_points, extent, oks_nms, person_score
from .report import EvaluationReport
from .tables import UNDEFINED, Table

WHOLE = 'whole'


@METRICS.register_module()
class KeypointAP(KeypointMetric):
    """OKS-AP and AR, mean, at 0.50 and 0.75, of medium and large persons, for each part and for all points.

    A part is a group of the vocabulary; ``hand`` is the mean of the left and the right hand. Each part is evaluated
    as a keypoint set of its own (persons without a labelled point in it do not count). The figures equal those of
    pycocotools for 17 points and of xtcocotools for COCO-WholeBody.

    Args:
        ann_file: COCO-style annotation file to score against; None takes the labels from the samples (ground-truth
            boxes only, since persons that no sample shows cannot be missed).
        vocabulary: Of the predictions, see `KeypointMetric`.
        gt_vocabulary: Of ``ann_file`` when it is another one.
        points: ``'all'``, or ``'common'``: only the 114 points that ``keypoints308`` and ``wholebody133`` share (those
            of them that the scored vocabulary has), so that models of 133 and 308 points compare.
        category: Name or id of the category of ``ann_file`` that is a person; None goes by the file's names.
        score_mode: Score of a person: ``'bbox_keypoint'`` = box score x mean of the keypoint scores above
            ``keypoint_threshold``; ``'keypoint'`` = mean of all keypoint scores; ``'bbox'`` = box score.
        nms_threshold: OKS above which the worse of two persons is a duplicate; None suppresses none.
    """

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
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, gt_vocabulary, **kwargs)
        for name, value, known in (('points', points, ('all', 'common')), ('score_mode', score_mode, SCORE_MODES)):
            if value not in known:
                raise UserError(f"KeypointAP: {name} '{value}' is none of {', '.join(map(repr, known))}")
        self.points, self.score_mode = points, score_mode
        self.keypoint_threshold, self.nms_threshold = keypoint_threshold, nms_threshold
        self.labels = None if ann_file is None else _checked(read_coco(ann_file, self.gt_vocabulary, category))
        self.scored = self.convert.scored
        self.sigmas = self.gt_vocabulary.sigmas.astype(np.float64)
        if points == 'common':
            common = common_points(self.gt_vocabulary)
            self.scored = np.array([i for i in self.scored if i in common], np.int64)
            self.sigmas[list(common)] = list(common.values())

    def measure(self, sample: dict) -> dict:
        """Keep the person's points (original image pixels), scores and box; its labels too without ``ann_file``."""
        keypoints = self.predicted(sample)
        scores = field(sample, 'pred_keypoint_scores', 'KeypointAP').astype(np.float64).reshape(-1)
        if len(scores) != len(keypoints):
            raise UserError(f'{sample_name(sample)}: {len(keypoints)} keypoints but {len(scores)} scores predicted')
        score = person_score(scores, sample.get('bbox_score'), self.score_mode, self.keypoint_threshold)
        box = box_of(sample)
        box = None if box is None else np.concatenate([box[:2], box[2:] - box[:2]])
        area_box = box if box_gives_area(self.gt_vocabulary) else None
        image = image_of(sample)
        result = CocoResult(image, keypoints, scores, score, area_box, box, ann_id=sample.get('ann_id'))
        record: dict[str, Any] = dict(result=result)
        if self.labels is None:
            points, visible = self.labelled(sample)
            box = extent(points[visible > 0]) if box is None else box
            area = box[2:].prod() * AREA_OF_BOX if sample.get('area') is None else sample['area']
            label = np.concatenate([points, visible[:, None]], 1)
            record['label'] = CocoPerson(sample.get('ann_id'), image, box, label, float(area))
        return record

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Suppress duplicates, evaluate."""
        labels = self.labels
        paths = {record['result'].image_id: record['path'] for record in records}
        if labels is None:
            images = {image: CocoImage(image, str(path)) for image, path in paths.items()}
            labels = CocoFile('the labels of the samples', images, [r['label'] for r in records], None, Notes())
        else:
            _check_images(paths, labels)
        above = f' (keypoint scores > {self.keypoint_threshold})' if self.score_mode == 'bbox_keypoint' else ''
        results = [record['result'] for record in records]
        report = self.evaluate_results(results, labels, self.nms_threshold, self.score_mode + above)
        for row in report.per_image:
            row['file'] = paths.get(row['image'])
        for _, sample in self.worst:
            sample['img_path'] = paths.get(sample['img_id'])
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
        labels, given = _checked(labels or self.labels), len(results)
        if nms_threshold is not None:
            results = self._suppress(results, nms_threshold)
        order = sorted(labels.images, key=lambda i: (isinstance(i, str), i))
        people = [p for p in labels.persons if p.bbox is not None]
        truth, found = self._truth(people, order), self._found(results, order, labels)
        metrics: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        table = Table('Keypoint AP and AR', ['Part', *FIGURES], [], kind='fraction')
        sets = {}
        for part, points in self._parts().items():
            name = 'wholebody' if part == WHOLE else part.replace('_', '')  # of a part's own score in result files
            scores = np.array([result.part_scores.get(name, result.score) for result in results], np.float64)
            sets[part] = PointSet(truth, found, scores, points, self.sigmas[points], len(order))
            figures = sets[part].figures()
            prefix = '' if part == WHOLE else f'{part}_'
            metrics.update({prefix + figure: value for figure, value in figures.items()})
            table.rows.append([part, *figures.values()])
            for figure, bounds in self.intervals(len(order), sets[part].figures).items():
                intervals[prefix + figure] = table.intervals[part, figure] = bounds
        hands = [row[1:] for row in table.rows if row[0] in ('left_hand', 'right_hand')]
        if len(hands) == 2:
            means = [UNDEFINED if UNDEFINED in pair else float(np.mean(pair)) for pair in zip(*hands, strict=True)]
            table.rows.append(['hand', *means])
            metrics.update({f'hand_{name}': value for name, value in zip(FIGURES, means, strict=True)})
        # As the paper orders them: parts first, all points last.
        table.rows.append(table.rows.pop(0))
        best = sets[WHOLE].best()
        per_image = self._by_image(best, order, labels, people, results)
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
        predicted = {id_key(result.image_id) for result in results}
        without = sum(id_key(row['image']) not in predicted for row in per_image)
        empty = len(order) - len(per_image)
        undefined = ', '.join(f'{row[0]} {name}' for row in table.rows
                              for name, v in zip(FIGURES, row[1:], strict=True) if v == UNDEFINED)  # fmt: skip
        cases = [
            (without, f'{without} of {len(per_image)} images with labelled persons have no prediction: all missed'),
            (empty, f'{empty} images have no labelled person; detections there count as false'),
            *((note, f'{labels.path}: {note}') for note in labels.notes),
            (undefined, f'no labelled person for {undefined}: n/a here, -1 in files as in COCO'),
        ]
        tables = [table, self._by_keypoint(best, people, results)]
        return self.make_report(metrics, protocol, tables, cases, intervals, per_image)

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

    def _truth(self, people: list[CocoPerson], order: list) -> list[dict[str, Any]]:
        """Every person with a box; one without labelled points never counts."""
        number, empty = {image: i for i, image in enumerate(order)}, np.zeros((self.gt_vocabulary.num_keypoints, 3))
        return [
            {
                'image_id': number[person.image_id],
                'category_id': 1,
                'keypoints': empty if person.keypoints is None else person.keypoints.astype(np.float64),
                'bbox': np.asarray(person.bbox).tolist(),
                'area': float(person.area),
                'iscrowd': int(person.crowd),
            }
            for person in people
        ]

    def _found(self, results: list[CocoResult], order: list, labels: CocoFile) -> list[dict[str, Any]]:
        """The results in the labels' vocabulary; the area is that of the box, else of the extent of the body."""
        number = {id_key(image): i for i, image in enumerate(order)}
        unknown = sorted({str(r.image_id) for r in results if id_key(r.image_id) not in number})
        if unknown:
            raise UserError(
                f'predictions: {len(unknown)} image ids are not in {labels.path} (first: {", ".join(unknown[:3])}; it '
                f'has {", ".join(map(str, order[:3]))}, ...); predictions and annotations must be of the same images'
            )
        body = [i for i in self.gt_vocabulary.groups.get('body', ()) if i in self.scored] or list(self.scored)
        found = []
        for result in results:
            points, scores = self.convert(result.keypoints, result.keypoint_scores)
            box = extent(points[body]) if result.bbox is None else result.bbox
            keypoints = np.concatenate([points, (scores > 0)[:, None]], 1, dtype=np.float64)
            found.append({'image_id': number[id_key(result.image_id)], 'category_id': 1, 'keypoints': keypoints,
                          'area': float(box[2:].prod()), 'iscrowd': 0})  # fmt: skip
        return found

    def _parts(self) -> dict[str, np.ndarray]:
        """Ids of the scored points by part, all of them first."""
        groups = {name: ids[np.isin(ids, self.scored)] for name, ids in self.gt_vocabulary.groups.items()}
        groups = {name: ids for name, ids in groups.items() if len(ids)}
        return {WHOLE: self.scored} | groups if len(groups) > 1 else {WHOLE: self.scored}

    def _by_image(
        self, best: list, order: list, labels: CocoFile, people: list[CocoPerson], results: list[CocoResult]
    ) -> list[dict]:
        """One row per image with persons that count (mean of their best OKS); the worst of them are kept.

        What is kept has pairs of the labelled and the predicted points of its persons.
        """
        of_image: dict[int, list[tuple]] = {}
        for image, *pair in best:
            of_image.setdefault(image, []).append(pair)
        rows = [{'image': order[i], 'file': labels.images[order[i]].file_name, 'persons': len(pairs),
                 'oks': float(np.mean([oks for *_, oks in pairs]))} for i, pairs in of_image.items()]  # fmt: skip
        self.worst = []
        for row, pairs in sorted(zip(rows, of_image.values(), strict=True), key=lambda item: item[0]['oks']):
            if len(self.worst) < self.keep_worst:
                found = [None if d is None else self.convert(results[d].keypoints)[0] for _, d, _ in pairs]
                shown = [(people[person].keypoints, points) for (person, *_), points in zip(pairs, found, strict=True)]
                self.worst.append((1 - row['oks'], {'img_id': row['image'], 'img_path': row['file'], 'pairs': shown}))
        return rows

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


def _checked(labels: CocoFile | None) -> CocoFile:
    """The file, if somebody in it counts."""
    if labels is None:
        raise UserError('KeypointAP: has no labels to score against; give it an ann_file')
    if all(person.ignored for person in labels.persons):
        raise UserError(f'{labels.path}: no person has a labelled keypoint; nothing can be evaluated against it')
    return labels


def _check_images(paths: dict[Hashable, Any], labels: CocoFile) -> None:
    """Raise a `UserError` when ids are those of other images: many files of annotations count from 0 or 1."""
    names = {id_key(image.id): image.file_name for image in labels.images.values()}
    for image, path in paths.items():
        name = names.get(id_key(image))
        if path and name is not None and not may_be_same(readable_name(str(path)), name):
            raise UserError(
                f"{labels.path}: image {image} is '{name}' there, but '{path}' was predicted; leave ann_file out of "
                "the evaluator, which then takes that of its dataloader's data set, or give it the same"
            )
