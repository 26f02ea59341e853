# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a renderer gets: triangles with materials and labels, and a builder that joins several objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .rasterizer import vertex_normals


@dataclass
class Material:
    """How a surface looks.

    Attributes:
        texture: ``(h, w, 4)`` uint8 sRGB + alpha.
        cutout: Texels with alpha < 128 are holes.
        gloss: Strength of the highlight, 0 to 1.
        shininess: Exponent of the highlight.
        skin: Light wraps around and reddens, as it does in skin.
        bump: Height of the procedural fine relief that only light sees (0 = smooth).
        fibre: The relief is drawn out downwards, as hair is.
    """

    texture: np.ndarray
    cutout: bool = False
    gloss: float = 0.05
    shininess: float = 20.0
    skin: bool = False
    bump: float = 0.0
    fibre: bool = False

    @classmethod
    def plain(cls, color: np.ndarray | tuple, **options) -> Material:
        """One sRGB colour, 0 to 255."""
        texture = np.empty((1, 1, 4), np.uint8)
        texture[..., :3] = np.clip(color, 0, 255)
        texture[..., 3] = 255
        return cls(texture, **options)


@dataclass
class Mesh:
    """Triangles of one object.

    Attributes:
        vertices: ``(V, 3)`` float32 metres, world axes (y up).
        faces: ``(F, 3)`` int32, counter-clockwise seen from outside.
        uv: ``(F, 3, 2)`` float32, v up.
        material: ``(F,)`` int32 index into ``materials``.
        part: ``(F,)`` uint8 id of the part vocabulary (0 for things that are not people).
        materials: The materials.
        normals: ``(V, 3)`` float32 unit; made from the faces where not given.
        zone: ``(F,)`` uint8 region for visibility tests (see `figure.ZONES`); 0 = none.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    part: np.ndarray
    materials: list[Material] = field(default_factory=list)
    normals: np.ndarray | None = None
    zone: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.normals is None:
            self.normals = vertex_normals(self.vertices, self.faces)
        if self.zone is None:
            self.zone = np.zeros(len(self.faces), np.uint8)


@dataclass
class Scene:
    """All meshes of a picture in one set of arrays.

    Attributes:
        vertices, normals, faces, uv, part, zone: As in `Mesh`.
        material: ``(F,)`` int32 row of ``table`` and ``looks``.
        instance: ``(F,)`` uint8; 0 = not a person, i = person i - 1.
        texels: ``(T, 4)`` uint8.
        table: ``(M, 4)`` int64: first texel, width, height, cutout.
        looks: ``(M, 5)`` float32: gloss, shininess, skin, bump, fibre.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    zone: np.ndarray
    material: np.ndarray
    instance: np.ndarray
    texels: np.ndarray
    table: np.ndarray
    looks: np.ndarray


def join(meshes: list[Mesh], instances: list[int]) -> Scene:
    """Join meshes; ``instances[i]`` is the instance id of ``meshes[i]``."""
    vertex_start, material_start, texel_start = 0, 0, 0
    faces, material, instance, texels, table, looks = [], [], [], [], [], []
    for mesh, number in zip(meshes, instances, strict=True):
        faces.append(mesh.faces + vertex_start)
        material.append(mesh.material + material_start)
        instance.append(np.full(len(mesh.faces), number, np.uint8))
        for m in mesh.materials:
            height, width = m.texture.shape[:2]
            table.append((texel_start, width, height, int(m.cutout)))
            looks.append((m.gloss, m.shininess, float(m.skin), m.bump, float(m.fibre)))
            texels.append(m.texture.reshape(-1, 4))
            texel_start += height * width
        vertex_start += len(mesh.vertices)
        material_start += len(mesh.materials)
    return Scene(
        vertices=np.concatenate([m.vertices for m in meshes]).astype(np.float32),
        normals=np.concatenate([m.normals for m in meshes]).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        uv=np.concatenate([m.uv for m in meshes]).astype(np.float32),
        part=np.concatenate([m.part for m in meshes]).astype(np.uint8),
        zone=np.concatenate([m.zone for m in meshes]).astype(np.uint8),
        material=np.concatenate(material).astype(np.int32),
        instance=np.concatenate(instance),
        texels=np.ascontiguousarray(np.concatenate(texels), np.uint8),
        table=np.array(table, np.int64),
        looks=np.array(looks, np.float32),
    )
