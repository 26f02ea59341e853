# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Draw one sample: who, in what pose, where, under what light, seen from where. A pure function of seed and index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from ..errors import UserError
from . import contact, poses
from .actor import Actor, Figure, pose_actor, surface_points, transforms_of
from .camera import Camera, frame_points
from .environment import Environment, sample_lights, turn, washed
from .floors import seat_surface
from .ground import Ground
from .imported import ImportedPose
from .labels import InvalidSample, Labels, check, make_labels
from .mesh import Material, Mesh, join
from .own_pictures import draw_backdrop, draw_panorama
from .posing import Pose
from .sensor import Sensor, apply_sensor
from .shading import expose, render_radiance
from .zones import ZONE

FRAMINGS = ('full', 'upper', 'face')
RENDERERS = ('numba', 'mitsuba-scalar', 'mitsuba-llvm')


class Assets(Protocol):
    """Where people, light and floors come from."""

    name: str
    poses: tuple[ImportedPose, ...]

    def actor(self, rng: np.random.Generator) -> Actor:
        """A random person."""

    def environment(self, rng: np.random.Generator) -> Environment:
        """Random light."""

    def ground(self, rng: np.random.Generator) -> Ground:
        """A random floor."""


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
    figures, things = _crowd(assets, recipe, count, rng, rejected)
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
        samples=recipe.samples or 2, shadow_resolution=160 if small else 384, rest=rest,
        blur=blur,
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


def _pose_for(
    actor: Actor,
    recipe: Recipe,
    rng: np.random.Generator,
    rejected: Counter,
    library: tuple[ImportedPose, ...] = (),
) -> Pose:
    """A pose without self-collision, settled on the ground and in balance."""
    # The family stays: some are refused more often than others, and would become rare.
    family = poses.choose_family(rng, recipe.families, library)
    for _ in range(40):
        pose = poses.draw(rng, family, library)
        if pose.support == 'feet':
            pose = contact.settle_feet(actor.skeleton, pose)
        transforms = transforms_of(actor, pose, pose.tilt)
        if pose.support == 'body':
            mass = contact.centre_of_mass(actor.skeleton, contact.joints(actor.skeleton, transforms))
            most = 40 if pose.family.startswith('lying') else 15
            settled = contact.settle_body(surface_points(actor, transforms), mass, most)
            if settled is None:
                rejected['falling over'] += 1
                continue
            pose = replace(pose, tilt=settled @ pose.tilt)
            transforms = transforms_of(actor, pose, pose.tilt)
        if contact.self_collision(actor.skeleton, transforms) > 0.012 + pose.touch:
            rejected['self-collision'] += 1
        elif pose.support == 'feet' and pose.family != 'running' and not contact.balanced(actor.skeleton, transforms):
            rejected['out of balance'] += 1
        elif not contact.rests(actor.skeleton, transforms, pose.family):
            rejected['floating'] += 1
        else:
            return pose
    raise InvalidSample('no pose without collision')


def _crowd(
    assets: Assets, recipe: Recipe, count: int, rng: np.random.Generator, rejected: Counter
) -> tuple[list[Figure], list[Mesh]]:
    """People who do not run through each other, and the seats of those who sit."""
    figures: list[Figure] = []
    things: list[Mesh] = []
    spread = 0.3 if recipe.contact else 0.85
    for number in range(count):
        actor = assets.actor(rng)
        pose = _pose_for(actor, recipe, rng, rejected, assets.poses)
        clearance = float(rng.uniform(0.02, 0.35)) if pose.support == 'air' else 0.0
        heading = float(rng.uniform(-180, 180)) if rng.random() < 0.45 else float(rng.normal(0, 35))
        figure = None
        for attempt in range(30):
            place = np.zeros(2)
            if number:
                reach = spread * (0.8 + 0.06 * attempt) * np.sqrt(number)
                around = rng.uniform(0, 2 * np.pi)
                place = reach * np.array([np.sin(around), np.cos(around)]) * rng.uniform(0.7, 1.3)
                if recipe.contact:  # face each other, more or less
                    heading = float(np.degrees(np.arctan2(-place[0], -place[1])) + rng.normal(0, 30))
            figure = pose_actor(actor, pose, heading, place, clearance)
            if all(contact.overlap(figure.capsules, other.capsules) < 0.01 for other in figures):
                break
            figure = None
        if figure is None:
            rejected['people overlap'] += 1
            raise InvalidSample('people overlap')
        if pose.support == 'seat':
            things.append(_seat(figure, heading, rng))
        figures.append(figure)
    return figures, things


def _seat(figure: Figure, heading: float, rng: np.random.Generator) -> Mesh:
    """A box under the thighs and buttocks of somebody who sits."""
    a, b, r = figure.capsules
    names = [c[0] for c in contact.CAPSULES]
    pelvis = a[names.index('pelvis')]
    zone = figure.mesh.zone
    under = np.isin(zone, [ZONE['pelvis'], ZONE['upperleg.L'], ZONE['upperleg.R']])
    points = figure.mesh.vertices[np.unique(figure.mesh.faces[under])]
    near = points[np.linalg.norm(points[:, [0, 2]] - pelvis[[0, 2]], axis=1) < 0.22]
    top = float(near[:, 1].min()) + 0.015 if len(near) else float(pelvis[1]) - 0.1
    top = max(top, 0.03)
    depth, width = rng.uniform(0.17, 0.24), rng.uniform(0.18, 0.32)
    board = rng.uniform(0.15, 0.5) * top if rng.random() < 0.5 else min(0.04, 0.5 * top)
    angle = np.radians(heading)
    c, s = np.cos(angle), np.sin(angle)
    quads = np.array([[4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5], [0, 2, 3, 1]])
    boxes, sheets = [], []
    for low, high in ((0.0, top - board), (top - board, top)):  # what carries, and a board or cushion on it
        corners = np.array([[x, y, z] for y in (low, high) for x in (-width, width) for z in (-depth, depth)])
        boxes.append(corners[quads].reshape(-1, 3))
        # The two axes along each side, in metres: textures keep their scale.
        axes = np.array([[0, 2], [1, 2], [1, 2], [0, 1], [0, 1], [0, 2]])
        sheets.append(np.take_along_axis(corners[quads], axes[:, None].repeat(4, 1), 2))
    points = np.concatenate(boxes) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    points[:, [0, 2]] += pelvis[[0, 2]] - 0.03 * np.array([s, c])
    first = 4 * np.arange(12)[:, None, None]
    faces = (first + [[0, 1, 2], [0, 2, 3]]).reshape(-1, 3).astype(np.int32)
    looks = [seat_surface(rng) for _ in range(2)]
    part = np.repeat([0, 1], 12).astype(np.int32)
    uv = np.concatenate(sheets).reshape(-1, 2)[faces] / np.array([g.scale for g in looks])[part, None, None]
    materials = [Material(np.dstack([g.texture, np.full(g.texture.shape[:2], 255, np.uint8)])) for g in looks]
    zeros = np.zeros(len(faces), np.uint8)
    return Mesh(points.astype(np.float32), faces, uv.astype(np.float32), part, zeros, materials)


def _aim(figures: list[Figure], focus: int, framing: str, recipe: Recipe, rng: np.random.Generator) -> Camera:
    """A random camera that frames the person in focus, or everybody."""
    points = figures[focus].keypoints
    body = figures[focus].mesh.vertices
    if framing == 'face':
        target, fill, focal = points[70:], rng.uniform(0.38, 0.75), rng.uniform(1.0, 2.6)
    elif framing == 'upper':
        target = np.concatenate([points[[0, 1, 2, 3, 4, 5, 6, 9, 10]], points[70:]])
        fill, focal = rng.uniform(0.65, 1.0), rng.uniform(0.8, 2.2)
    else:
        everybody = len(figures) > 1 and rng.random() < 0.7
        target = np.concatenate([f.mesh.vertices[::7] for f in figures]) if everybody else body[::3]
        fill, focal = rng.uniform(0.6, 1.05), rng.uniform(0.7, 2.4)
    facing = figures[focus].keypoints
    front = np.cross(facing[5] - facing[6], np.array([0, 1.0, 0]))
    azimuth = np.arctan2(front[0], front[2])
    swing = (
        rng.normal(0, 0.55)
        if framing == 'face'
        else rng.uniform(-np.pi, np.pi)
        if rng.random() < 0.45
        else rng.normal(0, 0.6)
    )
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
