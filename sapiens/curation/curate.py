# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The three jobs one after the other; what is done already is not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import UserError
from ..utils.files import only_writer, write_atomic
from .cluster import Cluster, plain_errors
from .duplicates import find_duplicates
from .packing import run_packing
from .report import write_report
from .scoring import run_scoring
from .sources import write_list
from .stage import build_stages, need


def curate(
    config: Mapping[str, Any],
    source: str,
    out: Path,
    address: str | None = None,
    num_cpus: int | None = None,
    store_mb: int | None = None,
) -> dict[str, Any]:
    """Score, find duplicates, decide, pack and report.

    Args:
        config: ``stages``, and perhaps ``duplicates``, ``pack`` and the numbers that ``configs/curation`` explains.
        source: See `find_images_of`.
        out: Folder to fill; on a cluster one that all machines see.
        address: See `Cluster`.
        num_cpus: See `Cluster`.
        store_mb: See `Cluster`.

    Returns:
        ``images``, ``kept``, ``shards`` and ``lost``.

    Raises:
        UserError: A wrong config, source or folder, one that another process works in, a model that cannot be had, a
            cluster that is too small.
    """
    if 'stages' not in config:
        raise UserError('config: has no stages; see configs/curation/humans.py')
    config = {**config, 'stages': {name: part for name, part in config['stages'].items() if part is not None}}
    check_settings(config)
    stages, console, out = build_stages(config), Console(), Path(out).resolve()
    for library in ('ray.data', 'pyarrow', 'faiss', 'matplotlib'):  # what comes hours later is missed now
        need(library)
    with only_writer(out):
        before = ', as the first run has listed them' if (out / 'list' / 'list.json').is_file() else ''
        listed = write_list(source, out / 'list', config.get('part_size', 1_000_000), config.get('block', 1000))
        _same_scores(out / 'scores' / 'stages.json', config)
        console.print(f'{source}: {listed["images"]} images in {len(listed["parts"])} parts{before}')
        parts = listed['parts']
        cluster = Cluster(stages, address, num_cpus, store_mb, console)
        try:
            with plain_errors():
                run_scoring(config, cluster, out, parts)
                searched = {k: v for k, v in config.get('duplicates', {}).items() if not k.startswith(('max_', 'min_'))}
                if _changed(out / 'pairs.json', searched):
                    find_duplicates(out, len(parts), config, cluster)
                    write_atomic(out / 'pairs.json', json.dumps(searched))
                result = run_packing(config, cluster, out, parts)
        finally:
            cluster.close()
        page = write_report(stages, source, out, parts, result['lost'])
        kept = f'{result["kept"]} of {listed["images"]} images kept, in {result["shards"]} shards'
        console.print(f'{out}: {kept}; the report is {page}')
        return {'images': listed['images'], **result}


DECODING = ('view', 'max_pixels')
"""What stages see depends on these."""
_SETTINGS: dict[str, dict[str, type]] = {
    'config': dict(view=int, max_pixels=float, max_failed=float, block_mb=float, part_size=int, block=int),
    'duplicates': dict(search_bits=int, search_cosine=float, neighbours=int, index=str, max_bits=int, min_cosine=float),
    'pack': dict(samples=int, short_side=int, quality=int, shuffle=bool, seed=int),
}
_WORDS = {int: 'a whole number', float: 'a number', str: 'a text', bool: 'True or False'}


def check_settings(config: Mapping[str, Any]) -> None:
    """What stands beside the stages is checked before hours of scoring, not after.

    Raises:
        UserError: A value of another type, or a name in ``duplicates`` or ``pack`` that nobody reads.
    """
    for place, known in _SETTINGS.items():
        given = config if place == 'config' else config.get(place, {})
        if not isinstance(given, Mapping) or (given is not config and set(given) - set(known)):
            raise UserError(f'config: {place} is {given!r}; it takes {", ".join(known)}')
        for name in known.keys() & given.keys():
            value, kind = given[name], known[name]
            if value is None and name in ('index', 'short_side'):
                continue
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UserError(f'config: {name} in {place} is {value!r}, not {_WORDS[kind]}')
            if name in ('part_size', 'block', 'samples', 'neighbours', 'view') and value < 1:
                raise UserError(f'config: {name} in {place} is {value!r}, and must be at least 1')


def _same_scores(path: Path, config: Mapping[str, Any]) -> None:
    """Scores of one folder are all of one config.

    Raises:
        UserError: Those that are there are of another.
    """
    asked: dict[str, Any] = {
        name: {key: value for key, value in part.items() if key not in ('reject', 'resources')}
        for name, part in config['stages'].items()
    }
    asked['decoding'] = {name: config[name] for name in DECODING if name in config}
    asked = json.loads(json.dumps(asked, default=str))
    if path.is_file():
        known = json.loads(path.read_text())
        known.setdefault('decoding', asked['decoding'])  # older folders do not say
        differ = [name for name in {**known, **asked} if known.get(name) != asked.get(name)]
        if differ or list(known) != list(asked):
            what = f"stage '{differ[0]}' differs in more than its thresholds" if differ else 'the stages are reordered'
            if differ == ['decoding']:
                what = f'{" or ".join(DECODING)} differs'
            raise UserError(f'{path.parent}: holds scores of another config ({what}); give another folder, or delete '
                            'this one to score again')  # fmt: skip
    write_atomic(path, json.dumps(asked))


def _changed(path: Path, value: Any) -> bool:
    """Whether a JSON file is not there or says something else, the order of keys included."""
    return not path.is_file() or path.read_text() != json.dumps(value)
