# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The second job: pairs of images that are nearly the same, over the whole set; the third decides which one stays.

Images of equal hash are one node, so that a million copies of a placeholder are no million squared pairs. Nodes of near
hashes (of the image or of its mirror) and images of near embeddings make pairs, with their distance: the search goes a
little farther than the thresholds of the config, which may then be moved without searching again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import replace_when_done
from ..utils.progress import progress
from .cluster import Cluster
from .scoring import read_part
from .stage import need

EXACT = 200_000
"""Up to so many vectors or hashes all are compared with all; beyond, faiss looks in the likely places."""


def find_duplicates(out: Path, parts: int, config: Mapping[str, Any], cluster: Cluster) -> None:
    """Write ``pairs.parquet``: ``a``, ``b`` (ids), ``kind`` (same, hash or embedding) and ``distance``.

    Args:
        out: Folder of the curation; the scores are complete.
        parts: Number of parts.
        config: The whole config; ``duplicates`` has ``search_bits``, ``search_cosine``, ``neighbours`` and, for faiss
            beyond `EXACT` images, ``index`` (a description of its index factory).
        cluster: Shows how far it is.
    """
    pa, parquet = need('pyarrow'), need('pyarrow.parquet')
    settings = dict(config.get('duplicates', {}))
    with progress('duplicates', 2, console=cluster.console) as advance:
        pairs = [_pairs([], [], [], 'same')]
        if (hashes := _column(out, parts, 'phash')) is not None:
            mirrors = _column(out, parts, 'phash_mirror')
            pairs += hash_pairs(hashes[0], hashes[1], mirrors[1], settings.get('search_bits', 8))
        advance()
        if (vectors := _column(out, parts, 'embedding')) is not None:
            pairs.append(embedding_pairs(*vectors, settings.get('search_cosine', 0.9), settings.get('neighbours', 32),
                                         settings.get('index')))  # fmt: skip
        advance()
    schema = dict(a=pa.int64(), b=pa.int64(), kind=pa.string(), distance=pa.float32())
    table = pa.concat_tables([pa.table(p, pa.schema(schema)) for p in pairs])
    with replace_when_done(out / 'pairs.parquet') as temporary:
        parquet.write_table(table, temporary)


def _column(out: Path, parts: int, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids and values of the images that have a column, over all parts, by id; None if no stage wrote it."""
    ids, values = [], []
    for part in range(parts):
        folder = out / 'scores' / f'{part:05d}'
        first = next(folder.glob('*.parquet'))
        if name not in need('pyarrow.parquet').read_schema(first).names:
            return None
        table = read_part(out, 'scores', part, ['id', name])
        table = table.filter(need('pyarrow.compute').is_valid(table[name]))
        ids.append(table['id'].to_numpy())
        column = table[name].combine_chunks()
        flat = column.flatten().to_numpy() if hasattr(column, 'flatten') and len(column) else column.to_numpy()
        values.append(flat.reshape(len(table), -1) if len(flat) != len(table) else flat)
    order = np.argsort(np.concatenate(ids))
    return np.concatenate(ids)[order], np.concatenate([v for v in values if len(v)] or [np.zeros(0)])[order]


def _pairs(a: Any, b: Any, distance: Any, kind: str) -> dict[str, Any]:
    return dict(a=np.asarray(a, np.int64), b=np.asarray(b, np.int64), kind=[kind] * len(a),
                distance=np.asarray(distance, np.float32))  # fmt: skip


def hash_pairs(ids: np.ndarray, hashes: np.ndarray, mirrors: np.ndarray, bits: int) -> list[dict[str, Any]]:
    """Pairs of equal hashes (with the first of them) and of near ones (between the first of each).

    Args:
        ids: ``(N,)`` rising.
        hashes: ``(N,)`` int64.
        mirrors: ``(N,)`` int64, of the mirrored images.
        bits: Most bits that differ.
    """
    faiss = need('faiss')
    unique, first, member_of = np.unique(hashes, return_index=True, return_inverse=True)
    others = np.flatnonzero(np.arange(len(ids)) != first[member_of])
    same = _pairs(ids[first[member_of[others]]], ids[others], np.zeros(len(others)), 'same')
    if len(unique) <= EXACT:
        index = faiss.IndexBinaryFlat(64)
    else:
        # By halves: of two hashes that differ in 2 n + 1 bits, one half differs in at most n.
        index = faiss.IndexBinaryMultiHash(64, 2, 32)
        index.nflip = bits // 2
    index.add(unique.view(np.uint8).reshape(-1, 8))
    found = []
    for turned in (unique, mirrors[first]):
        for start in range(0, len(unique), 100_000):
            asked = turned[start : start + 100_000].view(np.uint8).reshape(-1, 8)
            ends, distances, near = index.range_search(asked, bits + 1)
            here = np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64))) + start
            found.append((here, near, distances))
    a, b, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    keep = (a < b) & (distance <= bits)
    return [same, _pairs(ids[first[a[keep]]], ids[first[b[keep]]], distance[keep], 'hash')]


def embedding_pairs(
    ids: np.ndarray, vectors: np.ndarray, cosine: float, neighbours: int = 32, index: str | None = None
) -> dict[str, Any]:
    """Pairs of vectors ``(N, D)`` with at least that cosine, among the nearest of each; distance = 1 - cosine.

    The angle is the one at the mean of the set: features of images of one kind (people, say) all point the same way.

    Args:
        ids: ``(N,)``.
        vectors: ``(N, D)`` of any float type.
        cosine: Least.
        neighbours: How many are looked at.
        index: faiss's description of an index; None = exact up to `EXACT` vectors, then inverted lists in 16 bits.
    """
    faiss = need('faiss')
    if len(ids) < 2:
        return _pairs([], [], [], 'embedding')
    some = np.sort(np.random.default_rng(0).choice(len(ids), min(len(ids), EXACT), replace=False))
    mean = vectors[some].mean(0, dtype=np.float32)

    def part(where: Any) -> np.ndarray:
        away = vectors[where].astype(np.float32) - mean
        return away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-12)

    lists = 2 ** int(np.log2(4 * np.sqrt(len(ids))))
    description = index or ('Flat' if len(ids) <= EXACT else f'IVF{lists},SQfp16')
    made = faiss.index_factory(vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)
    if not made.is_trained:
        made.train(part(some))
    steps = [slice(start, start + 20_000) for start in range(0, len(ids), 20_000)]
    for step in steps:
        made.add(part(step))
    if hasattr(made, 'nprobe'):
        made.nprobe = 16
    found = []
    for step in steps:
        close, near = made.search(part(step), min(neighbours, len(ids)))
        here = np.broadcast_to(np.arange(step.start, step.start + len(near))[:, None], near.shape)
        good = (close >= cosine) & (near >= 0) & (near != here)
        found.append((np.minimum(here, near)[good], np.maximum(here, near)[good], 1 - close[good]))
    a, b, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    _, once = np.unique(a * len(ids) + b, return_index=True)
    return _pairs(ids[a[once]], ids[b[once]], distance[once], 'embedding')


def choose(
    count: int, passing: np.ndarray, value: np.ndarray, pairs: Mapping[str, np.ndarray], bits: int, cosine: float
) -> np.ndarray:
    """Which image each duplicate is a duplicate of.

    Of an image and its near ones the best stays, in the order of value; an image leaves only for one that stays, so
    that a chain of small changes does not end far from what is kept.

    Args:
        count: Number of images, whose ids are 0, 1, ...
        passing: ``(N,)`` whether an image passes all else; others are nobody's duplicate, nor its original.
        value: ``(N,)`` the higher, the better; equal ones go by id.
        pairs: Columns of ``pairs.parquet``.
        bits: Most bits that the hashes of duplicates differ in.
        cosine: Least cosine of their embeddings.

    Returns:
        ``(N,)`` int64, -1 for those that are no duplicate.
    """
    node = np.arange(count)
    same = pairs['kind'] == 'same'
    node[pairs['b'][same]] = pairs['a'][same]
    near = ((pairs['kind'] == 'hash') & (pairs['distance'] <= bits)) | (
        (pairs['kind'] == 'embedding') & (pairs['distance'] <= 1 - cosine + 1e-6)
    )
    order = np.lexsort((np.arange(count), -value))
    order = order[passing[order]]
    rank = np.full(count, count)
    rank[order] = np.arange(len(order))
    # The best of each node speaks for it.
    best = np.full(count, -1)
    best[node[order[::-1]]] = order[::-1]
    original = np.full(count, -1)
    original[order] = best[node[order]]
    a, b = best[node[pairs['a'][near]]], best[node[pairs['b'][near]]]
    good = (a >= 0) & (b >= 0) & (a != b)
    a, b = a[good], b[good]
    worse, better = np.where(rank[a] > rank[b], a, b), np.where(rank[a] > rank[b], b, a)
    gone: dict[int, int] = {}
    for i in np.lexsort((rank[better], rank[worse])):
        if int(worse[i]) not in gone and int(better[i]) not in gone:
            gone[int(worse[i])] = int(better[i])
    moved = np.arange(count)
    moved[list(gone)] = list(gone.values())
    original[order] = moved[original[order]]
    original[original == np.arange(count)] = -1
    return original
