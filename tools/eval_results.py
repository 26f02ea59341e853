# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Score saved predictions again, without the model.

    python tools/eval_results.py RESULTS --ann-file GT --task pose --vocabulary coco17 --json OUT.json

RESULTS is what ``tools/test.py --out`` wrote (or what any other program wrote in the same format): for pose a COCO
result file, for seg, depth and normal a folder of maps. GT is a COCO-style annotation file (pose) or a manifest.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.commands import options
from sapiens.datasets import Manifest
from sapiens.datasets.label_files import decode_depth, decode_ids, decode_mask, decode_normals
from sapiens.datasets.storage import read_bytes
from sapiens.errors import UserError, run_cli
from sapiens.evaluation import (
    EvaluationReport,
    HumanMetric,
    KeypointAP,
    SavedMaps,
    print_report,
    write_confusion,
    write_reports,
    write_worst,
)
from sapiens.evaluation.persons import PointConversion
from sapiens.evaluation.saved import FIELDS
from sapiens.evaluation.tables import add_reference_file
from sapiens.registry import METRICS
from sapiens.structures.coco import CocoFile, CocoImage, CocoPerson, read_coco
from sapiens.structures.coco_entries import (
    AREA_OF_BOX,
    Notes,
    box_problem,
    clean_keypoints,
    id_key,
    read_box,
    read_keypoints,
)
from sapiens.structures.coco_results import CocoResult, read_coco_results
from sapiens.utils.json_files import as_numbers
from sapiens.vocabularies import KeypointVocabulary, VocabularyError, load_keypoints, load_vocabulary
from sapiens.vocabularies.names import vocabulary_difference

_LABELS = {'seg': 'parts', 'depth': 'depth', 'normal': 'normals'}
_LABEL_FIELDS = {'parts': 'gt_part_map', 'depth': 'gt_depth', 'normals': 'gt_normals', 'mask': 'gt_mask',
                 'instances': 'gt_mask'}  # fmt: skip
_METRICS = {'seg': 'PartIoU', 'depth': 'DepthMetric', 'normal': 'NormalMetric'}
# What only some tasks have: a given option that would do nothing is an error.
_OPTIONS = {
    'pose': ('vocabulary', 'gt_vocabulary', 'category', 'points', 'nms', 'pck'),
    'seg': ('vocabulary', 'label_map', 'pred_map', 'outlines', 'confusion'),
    'depth': ('alignment', 'max_depth'),
    'normal': (),
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = options.new_parser(__doc__)
    parser.add_argument('results', help='pose: COCO result file; others: folder of maps')
    parser.add_argument('--ann-file', required=True, help='COCO-style annotations (pose) or a manifest')
    parser.add_argument('--task', required=True, choices=('pose', 'seg', 'depth', 'normal'))
    parser.add_argument('--vocabulary', help='of the predictions; default: coco17 / parts28')
    parser.add_argument('--gt-vocabulary', help='of the annotations, when it is another one')
    parser.add_argument('--category', metavar='NAME', help='pose: the category that is a person (name or id)')
    parser.add_argument('--points', choices=('all', 'common'), default='all', help='common: the 114 shared points')
    parser.add_argument('--nms', type='amount', help='suppress persons whose OKS with a better one is above this')
    parser.add_argument('--pck', action='store_true', help='pose: PCK, NME and AUC too')
    parser.add_argument('--metric', metavar='NAME', help='another registered metric; pose: beside AP and AR')
    parser.add_argument('--label-map', help='seg: ids of the labels, "old=new,old=new,..."')
    parser.add_argument('--pred-map', help='seg: ids of the predictions, "old=new,..."')
    parser.add_argument('--outlines', action='store_true', help='seg: mBF too, the F-score of the outlines (slow)')
    parser.add_argument('--alignment', choices=('scale_shift', 'median', 'none'), help='depth')
    parser.add_argument('--max-depth', type='amount', help='depth: farthest label that counts, metres')
    parser.add_argument('--bootstrap', type='number', default=0, metavar='N', help='resamples for confidence intervals')
    parser.add_argument('--json', help='write figures, tables, protocol and notes')
    parser.add_argument('--csv', help='write the tables')
    parser.add_argument('--markdown', help='write the tables')
    parser.add_argument('--confusion', help='seg: write the confusion picture (PNG)')
    parser.add_argument('--show-worst', type='number', default=0, metavar='N', help='draw the N worst images')
    parser.add_argument('--show-dir', default='work_dirs/worst', help='where their pictures go')
    parser.add_argument('--image-root', help='folder of the images, for the pictures')
    parser.add_argument('--reference', help='JSON file with further published rows to show')
    args = parser.parse_args()
    for name in {name for names in _OPTIONS.values() for name in names} - set(_OPTIONS[args.task]):
        if getattr(args, name) != parser.get_default(name):
            tasks = ' and '.join(f'--task {task}' for task, names in _OPTIONS.items() if name in names)
            raise UserError(f'--{name.replace("_", "-")} is for {tasks}, not for --task {args.task}')
    return args


def main() -> None:
    """Score, print, write."""
    args = parse_args()
    for name in ('json', 'csv', 'markdown'):
        path, suffix = getattr(args, name), '.md' if name == 'markdown' else f'.{name}'
        if path and Path(path).suffix != suffix:
            raise UserError(f'--{name} {path}: the file name must end in {suffix}')
    if args.reference:
        add_reference_file(args.reference)
    metrics = score_pose(args) if args.task == 'pose' else [score_maps(args)]
    reports: list[EvaluationReport] = [metric.report for metric in metrics]
    for report in reports:
        print_report(report)
    for path in filter(None, (args.json, args.csv, args.markdown)):
        print(f'written: {write_reports(reports, path)}')
    if args.confusion:
        print(f'written: {write_confusion(reports[0], args.confusion)}')
    if args.show_worst:
        pictures = write_worst(metrics[0], args.show_dir, args.image_root)
        print(f'written: {len(pictures)} pictures in {args.show_dir}')


def score_pose(args: argparse.Namespace) -> list[HumanMetric]:
    """AP and AR of a COCO result file, PCK too when asked for."""
    vocabulary = load_keypoints(args.vocabulary or 'coco17')
    ours = load_keypoints(args.gt_vocabulary or vocabulary)
    if Path(args.ann_file).is_dir() or Path(args.ann_file).name == 'manifest.json':
        labels = manifest_persons(args.ann_file, ours)
    else:
        labels = read_coco(args.ann_file, ours, args.category)
    results, notes = read_coco_results(args.results, vocabulary, labels, args.category)
    metric = KeypointAP(
        vocabulary=vocabulary,
        gt_vocabulary=ours,
        points=args.points,
        bootstrap=args.bootstrap,
        keep_worst=args.show_worst,
    )
    metric.report = metric.evaluate_results(results, labels, nms_threshold=args.nms)
    metric.report.notes += [f'{args.results}: {note}' for note in notes]
    metrics: list[HumanMetric] = [metric]
    for name in filter(None, ('PCK' if args.pck else None, args.metric)):
        metrics.append(build_metric(name, vocabulary=vocabulary, gt_vocabulary=ours, bootstrap=args.bootstrap))
        samples = list(paired_samples(labels, results, metric.convert))
        metrics[-1].process(None, samples)
        metrics[-1].evaluate(len(samples))
    return metrics


def build_metric(name: str, **given: object) -> HumanMetric:
    """A metric by its name; one that makes no report has nothing to show here."""
    kind = METRICS.get(name)
    if kind is not None and not (isinstance(kind, type) and issubclass(kind, HumanMetric)):
        raise UserError(f'--metric {name}: is no HumanMetric; give it as test_evaluator of a config to sapiens test')
    return METRICS.build(dict(type=name, **given))


def paired_samples(labels: CocoFile, results: list[CocoResult], convert: PointConversion) -> Iterator[dict]:
    """Each labelled person with its prediction: by ``ann_id``, else the free one whose points are nearest."""
    by_image: dict = {}
    for result in results:
        by_image.setdefault(id_key(result.image_id), []).append(result)
    people: dict = {}
    for person in labels.persons:
        if not person.ignored and person.bbox is not None:
            people.setdefault(person.image_id, []).append(person)
    for image, persons in people.items():
        free = sorted(by_image.get(id_key(image), []), key=lambda r: -r.score)
        named = {r.ann_id: r for r in free if r.ann_id is not None}
        for person in persons:
            chosen = named.get(person.id)
            if chosen is None and not named and free:
                seen = person.keypoints[:, 2] > 0
                apart = [np.linalg.norm((convert(r.keypoints)[0] - person.keypoints[:, :2])[seen], axis=1).mean()
                         for r in free]  # fmt: skip
                chosen = free.pop(int(np.argmin(apart)))
            x, y, width, height = person.bbox
            yield {
                'img_id': image,
                'ann_id': person.id,
                'img_path': labels.images[image].file_name,
                'bbox': np.array([x, y, x + width, y + height]),
                'gt_keypoints': person.keypoints[:, :2],
                'gt_keypoints_visible': person.keypoints[:, 2],
                'pred_keypoints': None if chosen is None else chosen.keypoints,
                'missing': chosen is None,
            }


def manifest_persons(path: str, vocabulary: KeypointVocabulary) -> CocoFile:
    """Labelled persons of a manifest; image ids are the samples' ids."""
    images, persons, notes, manifest = {}, [], Notes(), Manifest(path)
    _check_meaning(manifest, 'keypoints', vocabulary, 'give that of the labels as --gt-vocabulary')
    for entry in manifest.entries():
        name = entry['id']
        images[name] = CocoImage(name, entry['files']['image'])
        for number, person in enumerate(entry['fields']['persons']):
            where = f"{path}: person {number} of sample '{name}'"
            keypoints = read_keypoints(person, vocabulary.num_keypoints, where)
            if keypoints is not None:
                keypoints = clean_keypoints(keypoints, {}, notes, f'person {number} of {name}')
            box, area = read_box(person.get('bbox'), where), as_numbers(person.get('area'))
            if box is None or box_problem(box, None):
                notes.add('persons without a box are left out', f'person {number} of {name}')
                continue
            if area is None or area.ndim or not area > 0:
                area = box[2:].prod() * AREA_OF_BOX
            persons.append(CocoPerson(f'{name}/{number}', name, box, keypoints, float(area)))
    return CocoFile(path, images, persons, None, notes)


def score_maps(args: argparse.Namespace) -> HumanMetric:
    """Figures of a folder of maps against a manifest."""
    saved = SavedMaps(args.results, args.task)
    given: dict = {}
    manifest = Manifest(args.ann_file)
    if args.task == 'seg':
        given = dict(
            vocabulary=args.vocabulary or saved.vocabulary,
            label_map=_pairs(args.label_map, '--label-map'),
            pred_map=_pairs(args.pred_map, '--pred-map'),
            boundary=args.outlines or None,
        )
    elif args.task == 'depth':
        given = dict(alignment=args.alignment, max_depth=args.max_depth)
    given = {name: value for name, value in given.items() if value is not None}
    name = args.metric or _METRICS[args.task]
    metric = build_metric(name, bootstrap=args.bootstrap, keep_worst=args.show_worst, **given)
    if args.task == 'seg' and not (args.label_map or args.pred_map):
        vocabulary = getattr(metric, 'vocabulary', None)
        _check_meaning(manifest, 'parts', vocabulary, 'give that of both as --vocabulary, or --label-map or --pred-map')
    count = 0
    for sample in map_samples(manifest, saved, args.task):
        metric.process(None, [sample])
        count += 1
    metric.evaluate(count)
    return metric


def _check_meaning(manifest: Manifest, kind: str, scored: Any, mend: str) -> None:
    """Raise a `UserError` when the labels of a manifest are of another vocabulary than that which is scored."""
    named = manifest.header.get(kind)
    if not named or scored is None:
        return
    with contextlib.suppress(VocabularyError):  # a file that is not here
        difference = vocabulary_difference(load_vocabulary(named), scored)
        if difference:
            raise UserError(
                f"{manifest.path}: its {kind} are '{named}', those scored '{scored.name}': {difference}; {mend}"
            )


def map_samples(manifest: Manifest, saved: SavedMaps, task: str) -> Iterator[dict]:
    """Every labelled image of the manifest with its saved map; the uninformative map where there is none."""
    kind, field, known, labelled = _LABELS[task], FIELDS[task], set(), 0
    decode: dict = {
        'parts': decode_ids,
        'depth': lambda *file: decode_depth(*file, manifest.header['depth_scale'])[None],
        'normals': lambda *file: np.moveaxis(decode_normals(*file, manifest.header['normal_axes']), -1, 0),
        'mask': decode_mask,
        'instances': decode_mask,
    }
    for entry in manifest.entries():
        name, files = str(entry['id']), entry['files']
        known.add(name)
        if kind not in files:
            continue
        labelled += 1
        # Who is a person, of the first file that says it.
        people = [other for other in ('mask', 'instances', 'parts') if other in files and task != 'seg'][:1]
        labels = {_LABEL_FIELDS[k]: decode[k](read_bytes(files[k]), files[k]) for k in (kind, *people)}
        sample = {'img_id': name, 'img_path': files['image'], **labels, 'missing': name not in saved.files}
        if sample['missing']:
            nothing = np.full_like(labels[_LABEL_FIELDS[kind]], task == 'depth')
            yield {**sample, field: nothing}
            continue
        for found, crop in saved.read(name):
            yield {**sample, field: found, **crop}
    if not labelled:
        raise UserError(f"{manifest.path}: no sample has a '{kind}' label; nothing can be evaluated")
    unknown = sorted(set(saved) - known)
    if unknown:
        raise UserError(
            f'{saved.folder}: {len(unknown)} results are of images that {manifest.path} does not have (first: '
            f'{", ".join(unknown[:3])}); predictions and annotations must be of the same images'
        )


def _pairs(text: str | None, option: str) -> dict[int, int] | None:
    if text is None:
        return None
    try:
        return {int(old): int(new) for old, new in (pair.split('=') for pair in text.split(','))}
    except ValueError:
        raise UserError(f"{option} '{text}': write pairs of ids like 18=0,19=255") from None


if __name__ == '__main__':
    run_cli(main)
