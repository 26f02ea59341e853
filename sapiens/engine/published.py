# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What is known of published weights: their names, repositories and licences (``published.json``)."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .containers import CheckpointError

SUFFIXES = ('.safetensors', '.pth', '.pt', '.pt2', '.ckpt', '.bin')  # a repository's, the best first
_REPOSITORY = r'(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)'
_NAME = re.compile(rf'(?:hf://)?{_REPOSITORY}(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^:]+))?')
# As huggingface_hub's own file system writes it.
_PATH = re.compile(rf'hf://{_REPOSITORY}(?:@(?P<revision>[\w.-]+))?/(?P<file>[^:]+)')
_ADDRESS = re.compile(
    rf'https?://[^/]*(?:huggingface\.co|hf\.co)/{_REPOSITORY}'
    r'(?:/(?:resolve|blob|tree)/(?P<revision>[\w.-]+)(?:/(?P<file>[^?]+))?)?/?(?:\?.*)?'
)


class HubError(CheckpointError):
    """Weights cannot be had by name; the message says why and what to do."""


@dataclass(frozen=True)
class Reference:
    """A file of weights on the hub.

    Attributes:
        repository: ``owner/name``.
        revision: Branch, tag or commit; None is the newest.
        file: In the repository; None: the one that fits.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f'@{self.revision}' if self.revision else ''
        return f'{self.repository}{revision}' + (f':{self.file}' if self.file else '')


@cache
def published() -> dict[str, Any]:
    """What is known of published weights: ``files`` (repository, file, licence, model) and ``licences``."""
    return json.loads(Path(__file__).with_name('published.json').read_text(encoding='utf-8'))


def parse_reference(text: str) -> Reference | None:
    """What a text names on the hub: a model of `published`, a reference, or an address; None for anything else."""
    for item in published()['files']:
        if item.get('model') == text:
            return Reference(item['repository'], None, item['file'] if '/' in item['file'] else None)
    found = _ADDRESS.fullmatch(text) or _PATH.fullmatch(text) or _NAME.fullmatch(text)
    if not found:
        return None
    reference = Reference(**found.groupdict())
    bare = reference.revision is None and reference.file is None
    if bare and not known_files(reference.repository) and (text.endswith(SUFFIXES) or Path(text).parent.is_dir()):
        return None  # a path to something that is not there
    return reference


def known_files(repository: str) -> list[str]:
    """Files of weights that a repository is known to hold."""
    return [item['file'] for item in published()['files'] if item['repository'] == repository]


def near_names(name: str, kind: str, count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Published names that are like another, the nearest first; none for one that is published itself.

    Args:
        kind: ``'model'`` or ``'repository'``.
    """
    names = sorted({item[kind] for item in published()['files'] if kind in item})
    return [] if name in names else difflib.get_close_matches(name, names, n=count, cutoff=cutoff)


def named(name: str) -> Reference:
    """What a name means on the hub, see `parse_reference`.

    Raises:
        HubError: Nothing; the nearest model is named.
    """
    reference = parse_reference(name)
    if reference is None:
        near = near_names(name, 'model', cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ''
        raise HubError(f"'{name}': {hint}give a model ('pose_308_1b') or owner/name[@revision][:file] of the hub")
    return reference


def origin_of(path: str | Path) -> dict[str, str] | None:
    """Where a published file is from, by its place in the hub's cache or by its name.

    Returns:
        ``repository``, ``file``, ``licence``, ``licence_url`` and, where known, ``revision``; None for other files.
    """
    path = Path(path)
    cached = re.fullmatch(r'(.*?/models--([^/]+)--([^/]+)/snapshots/(\w+))/(.+)', path.absolute().as_posix())
    if cached:
        folder, owner, name, revision, file = cached.groups()
        licence = licence_of(f'{owner}/{name}', Path(folder) / 'README.md')
        return dict(repository=f'{owner}/{name}', revision=revision, file=file, **licence)
    for item in published()['files']:
        name = Path(item['file']).name
        if path.name in (name, name.replace('_clean', '')):
            return dict(repository=item['repository'], file=item['file'], **licence_of(item['repository']))
    return None


def licence_of(repository: str, card: Path | None = None) -> dict[str, str]:
    """``licence`` and ``licence_url`` of a repository: as known, else as its card (README.md) says."""
    for item in published()['files']:
        if item['repository'] == repository:
            about = published()['licences'][item['licence']]
            return dict(licence=about['text'], licence_url=about['url'].format(repository=repository))
    text = card.read_text(encoding='utf-8', errors='replace') if card and card.is_file() else ''
    front = text.split('---')[1] if text.startswith('---') and text.count('---') > 1 else ''
    told = dict(re.findall(r'^(license\w*):\s*["\']?(.+?)["\']?\s*$', front, re.MULTILINE))
    link = told.get('license_link', '')
    return dict(
        licence=told.get('license_name') or told.get('license') or 'not stated: see its page',
        licence_url=link if link.startswith('http') else f'https://huggingface.co/{repository}',
    )
