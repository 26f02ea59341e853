# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Draw one sample: who, in what pose, where, under what light, seen from where. A pure function of seed and index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from ..errors import UserError
from .actor import Figure
from .camera import Camera, frame_points
from .crowd import crowd
from .environment import sample_lights, turn, washed
from .labels import InvalidSample, Labels, check, make_labels
from .library import Assets
from .mesh import join
from .own_pictures import draw_backdrop, draw_panorama
from .sensor import Sensor, apply_sensor
from .shading import expose, render_radiance

FRAMINGS = ('full', 'upper', 'face')
RENDERERS = ('numba', 'mitsuba-scalar', 'mitsuba-llvm')


@dataclass(frozen=True)
class Recipe:
    """What to draw.

    Attributes:
        size: ``(H, W)``.
        framings: Of `FRAMINGS`; drawn evenly.
        persons: Least and most people.
        families: Pose families; None = all.
        contact: People stand within reach of each other.
        elevation: Range of the camera's elevation in degrees.
        samples: Supersampling along each side; 0 = by size.
        lights: Number of parallel lights; 0 = by size.
        sensor: Strength of each sensor effect.
        backgrounds: Files of the user's backgrounds.
        hdris: Files of the user's panoramas, light and background of three pictures in four.
        renderer: Of `RENDERERS`: what makes the picture; labels are the same.
        spp: Paths a pixel of a path tracer; 0 = 32.
    """

    size: tuple[int, int] = (1024, 768)
    framings: tuple[str, ...] = FRAMINGS
    persons: tuple[int, int] = (1, 4)
    families: tuple[str, ...] | None = None
    contact: bool = False
    elevation: tuple[float, float] = (-12, 42)
    samples: int = 0
    lights: int = 0
    sensor: Sensor = field(default_factory=Sensor)
    backgrounds: tuple[str, ...] = ()
    hdris: tuple[str, ...] = ()
    renderer: str = 'numba'
    spp: int = 0


PRESETS: dict[str, dict] = {
    'thuman-like': dict(
        framings=FRAMINGS,
        persons=(1, 1),
        families=('standing', 'walking', 'reaching', 'bending'),
        elevation=(-8, 20),
    ),
    'hi4d-like': dict(
        framings=('full',),
        persons=(2, 2),
        contact=True,
        elevation=(-5, 25),
        families=('standing', 'walking', 'reaching'),
    ),
}
"""Evaluation sets in the manner of the paper's: single scans in three framings, pairs in close contact."""


@dataclass
class Sample:
    """One finished picture.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        labels: Its labels.
        camera: Its camera.
        info: Framing, environment and so on, for the manifest.
        rejected: Why earlier draws of this sample were thrown away -> how often.
    """

    image: np.ndarray
    labels: Labels
    camera: Camera
    info: dict
    rejected: Counter


def draw_sample(assets: Assets, recipe: Recipe, seed: int | tuple[int, ...], index: int, attempts: int = 60) -> Sample:
    """Draw, render, label and check sample ``index``; what fails is drawn again.

    Args:
        assets: Source of people, light and floors.
        recipe: What to draw.
        seed: Same seed and index = same sample, whatever was drawn before.
        index: Number of the sample.
        attempts: Draws before giving up.

    Raises:
        UserError: No draw passed the checks.
    """
    key = [*seed] if isinstance(seed, tuple) else [seed]
    rejected: Counter = Counter()
    for attempt in range(attempts):
        rng = np.random.default_rng([*key, index, attempt])
        try:
            return _draw(assets, recipe, rng, rejected)
        except InvalidSample as error:
            rejected[str(error)] += 1
    raise UserError(f'sample {index} of seed {seed} failed {attempts} times ({dict(rejected)}); relax the recipe')


def _draw(assets: Assets, recipe: Recipe, rng: np.random.Generator, rejected: Counter) -> Sample:
    count = int(rng.integers(recipe.persons[0], recipe.persons[1] + 1))
    framing = str(rng.choice(recipe.framings))
    figures, things = crowd(assets, count, recipe.families, recipe.contact, rng, rejected)
    focus = int(rng.integers(count))
    camera = _clear_view(figures, focus, framing, recipe, rng, rejected)
    scene = join([f.mesh for f in figures] + things, [*range(1, count + 1), *[0] * len(things)])
    labels = make_labels(scene, figures, camera, min_pixels=max(40, int(np.prod(recipe.size) * 4e-4)))
    if not labels.persons:
        raise InvalidSample('nobody to be seen')
    around = draw_panorama(recipe.hdris, rng) or assets.environment(rng)
    environment = washed(turn(around, rng.random()), rng.uniform(0.4, 0.75))
    small = max(recipe.size) <= 384
    lights = sample_lights(environment, recipe.lights or (16 if small else 32), rng)
    ground = assets.ground(rng)
    # Cameras take most of the light's colour away.
    balance = (lights.irradiance.sum(0).mean() / lights.irradiance.sum(0)) ** np.float32(rng.uniform(0.5, 0.9))
    backdrop = None
    if recipe.backgrounds and rng.random() < 0.85:
        backdrop = draw_backdrop(recipe.backgrounds, camera.size, rng) / balance
    rest = np.concatenate([f.rest for f in figures] + [t.vertices for t in things])
    # At least about a pixel of the panorama: its grid must not be seen.
    columns = max(environment.radiance.shape[1], 512)
    blur = camera.intrinsics[0, 0] * 2 * np.pi / columns * rng.uniform(0.75, 1.3 if framing == 'full' else 1.8)
    radiance, coverage = _renderer(recipe, rng)(
        scene, camera, environment, lights, ground, backdrop,
        samples=recipe.samples or 2, shadow_resolution=160 if small else 384, rest=rest, blur=blur,
    )  # fmt: skip
    if backdrop is not None and rng.random() < 0.35 and framing != 'full':
        radiance = _defocus(radiance, coverage, rng.uniform(0.002, 0.008) * max(camera.size))
    image = expose(radiance * balance, coverage, float(rng.uniform(0.11, 0.22)), float(rng.uniform(0.85, 1.05)))
    image = apply_sensor(image, recipe.sensor, rng)
    check(labels, camera, image)
    info = {'framing': framing, 'environment': environment.name, 'assets': assets.name}
    return Sample(image, labels, camera, info, rejected)


def _renderer(recipe: Recipe, rng: np.random.Generator) -> Callable:
    if recipe.renderer == 'numba':
        return render_radiance
    from . import mitsuba_renderer

    # A seed that leaves the stream of random numbers as it is: all else is the same with both renderers.
    seed = int(rng.bit_generator.seed_seq.generate_state(1)[0])
    return partial(mitsuba_renderer.render_radiance, renderer=recipe.renderer, spp=recipe.spp or 32, seed=seed)


def _aim(figures: list[Figure], focus: int, framing: str, recipe: Recipe, rng: np.random.Generator) -> Camera:
    """A random camera that frames the person in focus, or everybody."""
    points = figures[focus].keypoints
    if framing == 'face':
        target, fill, focal = points[70:], rng.uniform(0.38, 0.75), rng.uniform(1.0, 2.6)
    elif framing == 'upper':
        target = np.concatenate([points[[0, 1, 2, 3, 4, 5, 6, 9, 10]], points[70:]])
        fill, focal = rng.uniform(0.65, 1.0), rng.uniform(0.8, 2.2)
    else:
        everybody = len(figures) > 1 and rng.random() < 0.7
        bodies = [f.mesh.vertices[::7] for f in figures] if everybody else [figures[focus].mesh.vertices[::3]]
        target = np.concatenate(bodies)
        fill, focal = rng.uniform(0.6, 1.05), rng.uniform(0.7, 2.4)
    front = np.cross(points[5] - points[6], np.array([0, 1.0, 0]))
    azimuth = np.arctan2(front[0], front[2])
    if framing == 'face':
        swing = rng.normal(0, 0.55)
    else:
        swing = rng.uniform(-np.pi, np.pi) if rng.random() < 0.45 else rng.normal(0, 0.6)
    elevation = np.radians(np.clip(rng.normal(6, 14), *recipe.elevation))
    return frame_points(
        target, recipe.size, fill, azimuth + swing, elevation, focal,
        roll=float(np.radians(rng.normal(0, 5))), shift=tuple(rng.normal(0, 0.05, 2)),
    )  # fmt: skip


def _clear_view(
    figures: list[Figure], focus: int, framing: str, recipe: Recipe, rng: np.random.Generator, rejected: Counter
) -> Camera:
    """A camera that nobody stands in."""
    bodies = np.concatenate([f.mesh.vertices[::5] for f in figures])
    for _ in range(8):
        camera = _aim(figures, focus, framing, recipe, rng)
        near = camera.to_camera(bodies)
        if not ((near[:, 2] < 0.2) & (np.linalg.norm(near, axis=1) < 0.45)).any():
            return camera
        rejected['somebody is too near to the camera'] += 1
    raise InvalidSample('no camera has a clear view')


def _defocus(radiance: np.ndarray, coverage: np.ndarray, sigma: float) -> np.ndarray:
    """Blur what is behind the people, and only that."""
    weight = (1 - coverage)[..., None] + 1e-4
    blurred = cv2.GaussianBlur(radiance * weight, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
    alpha = coverage[..., None]
    return radiance * alpha + blurred * (1 - alpha)
