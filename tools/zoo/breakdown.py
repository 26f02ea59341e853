# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Figures of a model on renders for groups of people: skin tone, age, gender, build, pose and framing.

Usage: python tools/zoo/breakdown.py DATA [--config CONFIG --weights FILE] [--flip] [--out report.md]
       [--sheet failures.png --worst 4]

DATA is a folder of renders that were kept apart (data/zoo/val), whose manifest says how each person was drawn. A group
is measured as `tools/test.py` measures all. --sheet draws the worst people of each metric. Interpret small groups with
care: the table says how many people each has.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from sapiens.errors import UserError, run_cli
from sapiens.utils.files import write_atomic

# Name -> where in a person's record, limits between groups, and the groups.
GROUPS = {
    'skin tone': ('skin_tone', (90, 135, 170), ('darkest', 'dark', 'light', 'lightest')),
    'age': ('age', (0.5, 0.74, 0.88), ('child', 'young', 'middle-aged', 'old')),
    'gender': ('gender', (0.35, 0.65), ('female', 'between', 'male')),
    'weight': ('weight', (0.35, 0.65), ('light', 'middle', 'heavy')),
}
COLUMNS = {
    'PCK': ('PCK@0.1',),
    'PartIoU': ('mIoU',),
    'DepthMetric': ('AbsRel', 'delta_1'),
    'NormalMetric': ('mean',),
}


def groups_of(record: dict[str, Any], person: dict[str, Any]) -> list[tuple[str, str]]:
    """Attribute and group of a person, for everything that the manifest says."""
    traits = person.get('traits') or {}
    found = [(name, names[sum(traits[key] >= limit for limit in limits)])
             for name, (key, limits, names) in GROUPS.items() if key in traits]  # fmt: skip
    found += [('pose', str(person['pose']))] if person.get('pose') else []
    return found + ([('framing', str(record['framing']))] if record.get('framing') else [])


def measure(args: argparse.Namespace) -> tuple[list, list[list[tuple[str, str]]]]:
    """The metrics, holding a record a person, and the groups of each person."""
    from rich.progress import track
    from torch.utils.data import DataLoader

    from sapiens.apis.loading import load_model
    from sapiens.datasets import Manifest
    from sapiens.registry import DATASETS, METRICS

    loaded = load_model(args.config, args.weights)
    network = loaded.network.float().eval()
    settings = {**loaded.config.test_dataloader.dataset, 'data_root': args.data}
    dataset = DATASETS.build(settings)
    manifest = Manifest(args.data)
    people = {}
    for entry in manifest.entries():
        for index, person in enumerate(entry['fields']['persons']):
            people[f'{entry["id"]}/{index}'] = groups_of(entry['fields'], person)
    evaluators = loaded.config.test_evaluator
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    metrics = [METRICS.build({**evaluator, 'keep_worst': args.worst}) for evaluator in evaluators]
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    order = []
    loader = DataLoader(dataset, batch_size=16, collate_fn=list)
    for batch in track(loader, description='measuring', disable=not sys.stderr.isatty()):
        inputs = network.data_preprocessor({'inputs': [item['inputs'] for item in batch]})['inputs']
        samples = network.predict(inputs, [item['data_samples'] for item in batch], flip_test=args.flip or None)
        for metric in metrics:
            metric.process(None, [sample.to_dict() for sample in samples])
        order += [people.get(sample.metainfo.get('ann_id'), []) for sample in samples]
    if not order:
        raise UserError(f'{args.data}: holds nobody to measure')
    return metrics, order


def tabulate(metrics: list, order: list[list[tuple[str, str]]]) -> list[list[str]]:
    """Rows of attribute, group, people and figures; the first row is everybody."""
    names = dict.fromkeys(pair for groups in order for pair in groups)
    known = [name for name in (*GROUPS, 'pose', 'framing') if any(name == pair[0] for pair in names)]
    rank = {(name, group): i for name, (_, _, groups) in GROUPS.items() for i, group in enumerate(groups)}
    pairs = sorted(names, key=lambda pair: (known.index(pair[0]), rank.get(pair, 0), pair[1]))
    rows = []
    for pair in (('everybody', ''), *pairs):
        chosen = [i for i, groups in enumerate(order) if pair[0] == 'everybody' or pair in groups]
        row = [*pair, str(len(chosen))]
        for metric in metrics:
            records = [metric.results[i] for i in chosen]
            figures = metric.summarize(records).metrics
            row += [f'{figures[key]:.3f}' if key in figures else '' for key in columns(metric)]
        rows.append(row)
    return rows


def columns(metric: Any) -> tuple[str, ...]:
    """Figures of a metric that the table shows."""
    return COLUMNS.get(type(metric).__name__, ())


def draw_sheet(metrics: list, path: str) -> None:
    """One picture of the worst people of each metric."""
    import cv2

    from sapiens.evaluation import write_worst

    strips = []
    for metric in metrics:
        metric.evaluate(len(metric.results))
        with tempfile.TemporaryDirectory() as folder:
            pictures = [cv2.imread(str(file)) for file in write_worst(metric, folder)]
        pictures = [cv2.resize(p, (max(1, round(p.shape[1] * 240 / p.shape[0])), 240)) for p in pictures]
        strips += [np.concatenate(pictures, 1)] if pictures else []
    width = max(strip.shape[1] for strip in strips)
    sheet = [np.pad(strip, ((0, 6), (0, width - strip.shape[1]), (0, 0))) for strip in strips]
    write_atomic(path, cv2.imencode('.png', np.concatenate(sheet))[1].tobytes())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', help='folder of renders with a manifest')
    parser.add_argument('--config', default='tiny', help='config or name')
    parser.add_argument('--weights', help='checkpoint; without one, what ships by the name of the model')
    parser.add_argument('--flip', action='store_true', help='average with the mirrored image')
    parser.add_argument('--out', help='also write the table, as Markdown')
    parser.add_argument('--sheet', help='PNG of the worst people')
    parser.add_argument('--worst', type=int, default=4, help='how many of each metric')
    args = parser.parse_args()
    metrics, order = measure(args)
    heads = ['attribute', 'group', 'people', *(key for metric in metrics for key in columns(metric))]
    rows = [heads, ['---'] * len(heads), *tabulate(metrics, order)]
    text = ''.join('| ' + ' | '.join(row) + ' |\n' for row in rows)
    print(text, end='')
    if args.out:
        write_atomic(args.out, text.encode())
    if args.sheet:
        draw_sheet(metrics, args.sheet)


if __name__ == '__main__':
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    run_cli(main)
