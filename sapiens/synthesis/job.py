# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Render a whole set: resumable, in several processes, the same whatever their number."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

from ..datasets import Manifest, ManifestWriter
from ..errors import UserError
from .actor import KEYPOINTS, PARTS
from .library import load_assets
from .scene import Recipe, Sample, draw_sample

SPLITS = {'train': 0, 'val': 1}


@dataclass(frozen=True)
class Job:
    """One manifest folder to fill.

    Attributes:
        folder: Where to.
        num: How many samples.
        seed: Same seed = same samples.
        stream: Independent sequences of one seed (train 0, val 1).
        recipe: What to draw.
        assets: 'fixture' or the folder of prepared assets.
        normal_bits: Bits a channel of the normals, 8 or 16.
    """

    folder: str
    num: int
    seed: int
    stream: int
    recipe: Recipe
    assets: str
    normal_bits: int = 8


def render_one(job: Job, index: int) -> Sample:
    """Draw sample ``index`` of a job."""
    return draw_sample(load_assets(job.assets), job.recipe, (job.seed, job.stream), index)


def run(jobs: list[Job], workers: int, progress: Callable[[Job, int, Counter], None]) -> None:
    """Render what is missing of every job and close their manifests, also after an error.

    Args:
        jobs: Folders to fill.
        workers: Processes; 0 or 1 renders in this one.
        progress: Called after each sample with the job, the index and the draws it rejected.

    Raises:
        UserError: The folder holds another set, a worker died.
        OSError: The disk is full.
    """
    writers = [open_writer(job) for job in jobs]
    todo = [
        (job, i) for job, writer in zip(jobs, writers, strict=True) for i in range(job.num) if name(i) not in writer
    ]
    try:
        for job, index, rejected in _results(todo, workers):
            progress(job, index, rejected)
    except BrokenProcessPool:
        raise UserError('a worker was killed (out of memory?); run the same command again to go on') from None
    finally:
        for writer in writers:
            writer.close()


def name(index: int) -> str:
    """Id of a sample."""
    return f'{index:06d}'


def open_writer(job: Job) -> ManifestWriter:
    """The writer of a job's folder.

    Raises:
        UserError: The folder holds samples of another recipe or seed, which must not be mixed.
    """
    description = _describe(job)
    path = Path(job.folder) / 'manifest.json'
    if path.exists():
        old = Manifest(path).header.get('synthesis')
        if isinstance(old, dict) and 'background_names' not in old and old.get('backgrounds'):
            description.pop('background_names', None)  # a folder of before the names were kept
        if old != description:
            changed = sorted(k for k in description if not isinstance(old, dict) or old.get(k) != description[k])
            raise UserError(f'{path}: holds a set rendered with another {", ".join(changed)}; choose another --out')
    return ManifestWriter(
        job.folder, keypoints=KEYPOINTS, parts=PARTS, normal_bits=job.normal_bits, synthesis=description
    )


def _describe(job: Job) -> dict:
    recipe = asdict(job.recipe)
    recipe['backgrounds'] = len(job.recipe.backgrounds)
    if job.recipe.backgrounds:
        names = '\n'.join(Path(path).name for path in job.recipe.backgrounds)
        recipe['background_names'] = hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()[:16]
    # Folders of before this option stay what they are.
    recipe.pop('hdris')
    if job.recipe.hdris:
        recipe['hdris'] = [Path(path).stem for path in job.recipe.hdris]
    recipe.update(seed=job.seed, stream=job.stream, assets=load_assets(job.assets).name, normal_bits=job.normal_bits)
    return json.loads(json.dumps(recipe))


_WRITERS: dict[str, ManifestWriter] = {}


def _work(job: Job, index: int) -> Counter:
    if job.folder not in _WRITERS:
        _WRITERS[job.folder] = open_writer(job)
    sample = render_one(job, index)
    labels, camera = sample.labels, sample.camera
    _WRITERS[job.folder].write(
        name(index), sample.image, parts=labels.parts, depth=labels.depth, normals=labels.normals,
        mask=labels.instances > 0, instances=labels.instances, persons=labels.persons,
        camera={'K': camera.intrinsics.tolist(), 'R': camera.rotation.tolist(), 'position': camera.position.tolist()},
        rejected=dict(sample.rejected), **sample.info,
    )  # fmt: skip
    return sample.rejected


def _results(todo: list[tuple[Job, int]], workers: int) -> Iterator[tuple[Job, int, Counter]]:
    if workers <= 1:
        yield from ((job, index, _work(job, index)) for job, index in todo)
        return
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        queue = iter(todo)
        running = {}
        try:
            while True:
                for job, index in queue:
                    running[pool.submit(_work, job, index)] = job, index
                    if len(running) >= 3 * workers:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, index = running.pop(future)
                    yield job, index, future.result()
        finally:
            for future in running:
                future.cancel()
