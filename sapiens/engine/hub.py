# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Published weights by name: ``owner/name[@revision][:file]`` on the Hugging Face hub, or a model's name.

A name is looked up in the folders of weights first, then in huggingface_hub's cache, then on the hub. The library's
own settings hold: ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``. An interrupted download goes on where
it stopped, also in a later run: huggingface_hub of today begins anew, and looks at no checksum.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..errors import UserError
from ..utils.files import replace_when_done
from ..utils.optional import need
from ..utils.shipped import shipped_root
from .published import SUFFIXES, HubError, Reference, known_files, licence_of, named, near_names, parse_reference
from .published import origin_of as origin_of

WEIGHTS_VARIABLE = 'SAPIENS_WEIGHTS'
# What ships is the first stage: the second has not been trained for long enough to be better.
SHIPPED = {'tiny': 'sapiens_tiny_4tasks'}
"""Short name -> config, and stem of the weights in the package."""


def weight_folders() -> list[Path]:
    """Where weights are looked for by name: ``$SAPIENS_WEIGHTS``, ``checkpoints`` here and in the checkout, shipped."""
    checkout, package = shipped_root() / 'checkpoints', Path(__file__).resolve().parents[1] / 'weights'
    return [Path(p) for p in (os.environ.get(WEIGHTS_VARIABLE), 'checkpoints', checkout, package) if p]


def weights_at_hand(stem: str) -> Path | None:
    """``<stem>.safetensors`` or ``.pth`` in a folder of weights."""
    return _first_file(f'{stem}.safetensors', f'{stem}.pth')


def _first_file(*names: str) -> Path | None:
    """The first of these names that a folder of weights has."""
    files = (folder / name for folder in weight_folders() for name in names)
    return next(filter(Path.is_file, files), None)


def resolve_weights(source: str | Path) -> Path:
    """The file of weights that a path or a name means; what is not at hand is downloaded.

    Args:
        source: Path, a name of `SHIPPED`, or see `parse_reference`.

    Returns:
        A path; it exists unless ``source`` was a path that does not.

    Raises:
        HubError: A name that cannot be had.
    """
    name, path = str(source), Path(source).expanduser()
    if path.exists():
        return path
    if name in SHIPPED:
        return weights_at_hand(SHIPPED[name]) or path
    reference = parse_reference(name)
    if reference is not None:
        return _at_hand(reference) or download(reference)
    if name.startswith(('http:', 'https:')):
        raise HubError(f'{name}: download the file first and give its path')
    return path


def _at_hand(reference: Reference) -> Path | None:
    """A copy in a folder of weights, under the name that it was published by."""
    if reference.revision is not None:
        return None
    names = []
    for name in [reference.file] if reference.file else known_files(reference.repository):
        stem, suffix = os.path.splitext(Path(name).name)
        for place in ('', f'{reference.repository}/', f'{reference.repository.partition("/")[2]}/'):
            names += [f'{place}{stem}.safetensors', f'{place}{stem}{suffix}',
                      f'{place}{stem.removesuffix("_clean")}{suffix}']  # fmt: skip
    return _first_file(*names)


def download(name: str | Reference, folder: str | Path | None = None) -> Path:
    """Get weights from the hub, or from the cache of earlier downloads.

    The licence is shown when something of a repository is first downloaded; `origin_of` gives it for a file.

    Args:
        name: See `parse_reference`.
        folder: Also put a copy there.

    Returns:
        The file; in the cache its path holds the commit that it is of.

    Raises:
        HubError: No network and nothing cached, unknown, gated, ambiguous, or not enough disk.
        MissingPackageError: huggingface_hub is not installed.
    """
    path = _Download(named(name) if isinstance(name, str) else name).run()
    if folder is None:
        return path
    copy = Path(folder) / path.name
    with replace_when_done(copy) as temporary:
        shutil.copyfile(path, temporary)
    return copy


class _Download:
    """One file of the hub, from the cache or the network."""

    def __init__(self, reference: Reference) -> None:
        hint = '; or download the file and give its path'
        for module in ('huggingface_hub.constants', 'huggingface_hub.errors', 'huggingface_hub'):
            self.hub = need(module, 'a name instead of a file of weights', extra='hub', hint=hint)
        self.reference = reference
        self.repository, self.revision = reference.repository, reference.revision or 'main'
        self.cache = Path(self.hub.constants.HF_HUB_CACHE)
        self.folder = self.cache / f'models--{self.repository.replace("/", "--")}'

    def run(self) -> Path:
        try:
            return self._fetch()
        except UserError:
            raise
        except Exception as error:
            problem = self._problem(error)
            path = None if problem else self._cached()
            return path or self._stop(problem or self._unreachable(error))

    def _problem(self, error: Exception) -> str:
        """What is wrong with the name or with this machine; empty: the hub could not be asked."""
        errors, number = self.hub.errors, getattr(error, 'errno', None)
        if isinstance(error, errors.GatedRepoError):
            return (
                f'gated: accept its terms at {self.hub.constants.ENDPOINT}/{self.repository}, then sign in with '
                '`hf auth login` or set HF_TOKEN'
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"has no revision '{self.revision}'"
        if isinstance(error, errors.RepositoryNotFoundError):
            near = near_names(self.repository, 'repository', count=2)
            hint = f'did you mean {" or ".join(near)}? ' if near else 'check the name; '
            return f'no such file here, and no such repository on the hub: {hint}a private one needs HF_TOKEN'
        if isinstance(error, errors.HFValidationError):
            return f'is no name on the hub ({" ".join(str(error).split())[:120]})'
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            where = getattr(error, 'filename', None) or self.cache
            return f'{where}: {os.strerror(number)}; set HF_HOME to a folder of yours'
        if number in (errno.ENOSPC, errno.EDQUOT):
            return f'the disk of {self.cache} is full; free some space or set HF_HOME: the download then goes on'
        return ''

    def _stop(self, problem: str) -> NoReturn:
        raise HubError(f'{self.reference}: {problem}') from None

    def _unreachable(self, error: Exception) -> str:
        near = near_names(self.repository, 'repository')
        hint = f'did you mean {near[0]}? ' if near else ''
        if self.hub.constants.HF_HUB_OFFLINE:
            return (
                f'{hint}it is not in the cache ({self.cache}), and HF_HUB_OFFLINE forbids to download it; '
                'get it once with the network on, or give a file'
            )
        status = getattr(getattr(error, 'response', None), 'status_code', None)
        what = f'answers with error {status}' if status else f'cannot be reached ({type(error).__name__})'
        return (
            f'no such file here, and the hub ({self.hub.constants.ENDPOINT}) {what}; {hint}check the network and run '
            'the same command again (a download goes on where it stopped), or give a file'
        )

    def _cached(self) -> Path | None:
        """The file in the cache, without asking the network."""
        pointer = self.folder / 'refs' / self.revision
        commit = pointer.read_text().strip() if pointer.is_file() else self.revision
        snapshot = self.folder / 'snapshots' / commit
        files = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob('*') if p.is_file()]
        wanted = self.reference.file in files if self.reference.file else any(f.endswith(SUFFIXES) for f in files)
        return snapshot / self._choose(files) if wanted else None

    def _choices(self, files: list[str]) -> str:
        weights = [f for f in files if f.endswith(SUFFIXES)]
        return 'it has ' + (', '.join(weights[:8]) + ', ...' * (len(weights) > 8) if weights else 'no weights at all')

    def _choose(self, files: list[str]) -> str:
        """The known file, else the one whose stem or suffix fits."""
        if self.reference.file:
            if self.reference.file in files:
                return self.reference.file
            self._stop(f"holds no file '{self.reference.file}' ({self._choices(files)})")
        known = known_files(self.repository)
        here = [name for name in known if name in files]
        if len(here) == 1:
            return here[0]
        stem = ''
        suffixes: tuple[str, ...] = SUFFIXES
        if len(known) == 1:  # of another revision, it may have another figure behind its stem
            stem, suffixes = Path(known[0]).name.rpartition('_')[0], (Path(known[0]).suffix, *SUFFIXES)
        for suffix in suffixes:
            fitting = [f for f in files if f.endswith(suffix)]
            named = [f for f in fitting if stem and Path(f).name.startswith(stem)]
            if len(fitting) == 1 or len(named) == 1:
                return (named or fitting)[0]
            if fitting:
                self._stop(f"holds several files of weights: choose one, e.g. '{self.repository}:{fitting[0]}' "
                           f'({self._choices(files)})')  # fmt: skip
        self._stop('holds no file of weights (.safetensors, .pth, .pt2)')

    def _fetch(self) -> Path:
        hub, revision = self.hub, self.reference.revision
        siblings = hub.HfApi().model_info(self.repository, revision=revision).siblings
        files = [item.rfilename for item in siblings or []]
        file = self._choose(files)
        url = hub.hf_hub_url(self.repository, file, revision=revision)
        about = hub.get_hf_file_metadata(url)
        snapshot = self.folder / 'snapshots' / str(about.commit_hash)
        blob = self.folder / 'blobs' / str(about.etag)
        if not (snapshot / file).exists() and not blob.exists():
            first = not self.folder.exists()
            if 'README.md' in files:
                hub.hf_hub_download(self.repository, 'README.md', revision=revision)
            if first:
                licence = licence_of(self.repository, snapshot / 'README.md')
                print(f'{self.repository}: licence {licence["licence"]} ({licence["licence_url"]})', file=sys.stderr)
            self._transfer(about, blob, url)
        # The library finds the bytes in its cache and puts the name beside them.
        return Path(hub.hf_hub_download(self.repository, file, revision=revision))

    def _transfer(self, about: Any, blob: Path, url: str) -> None:
        """Download into the cache; what an interrupted run left there is kept."""
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import WeakFileLock, build_hf_headers
        from huggingface_hub.utils.sha import sha_fileobj

        part = blob.with_name(f'{blob.name}.part')
        lock = self.cache / '.locks' / self.folder.name / f'{blob.name}.lock'
        for folder in (part.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock), open(part, 'ab') as out:
            if blob.exists():  # another process was quicker
                return
            size, there = about.size or 0, out.tell()
            free = shutil.disk_usage(self.cache).free
            if size - there > free:
                self._stop(
                    f'needs {(size - there) / 1e9:.2f} GB, {self.cache} has {free / 1e9:.2f} GB free; free some space '
                    'or set HF_HOME to a larger disk'
                )
            headers = build_hf_headers()
            if urlsplit(about.location).netloc != urlsplit(url).netloc:
                headers.pop('authorization', None)  # the token is for the hub, not for where it keeps the bytes
            http_get(about.location, out, resume_size=there, headers=headers, expected_size=about.size,
                     displayed_filename=url.rpartition('/')[2])  # fmt: skip
            out.flush()
            with open(part, 'rb') as file:
                content = sha_fileobj(file).hex()
            if re.fullmatch('[0-9a-f]{64}', blob.name) and content != blob.name:
                out.truncate(0)
                self._stop('the download does not have the content that the hub promised; run the same command again')
            os.replace(part, blob)
