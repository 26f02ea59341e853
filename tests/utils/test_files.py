# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files are written whole or not at all, and a refusal of the system names the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sapiens.utils import files
from sapiens.utils.files import only_writer, replace_when_done, write_atomic

# Each writer puts 800 kB into a process that may write files of 100 kB: to it, the disk is full.
WRITERS = {
    'bytes': 'write_atomic(path, bytes(800000))',
    'pieces': 'write_atomic(path, (bytes(1000) for _ in range(800)))',
    'numpy': "with replace_when_done(path) as t, open(t, 'wb') as out: np.save(out, np.zeros(100000))",
    'torch': "save_plain({'state_dict': {'a': torch.zeros(200000)}}, path)",
    'safetensors': "with replace_when_done(path) as t: save_file({'a': torch.zeros(200000)}, str(t))",
    'folder': "with replace_when_done(path, folder=True) as t: (t / 'a').write_bytes(bytes(800000))",
}
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import save_file
from sapiens.engine.files import save_plain
from sapiens.errors import run_cli
from sapiens.utils import files
from sapiens.utils.files import only_writer, replace_when_done, write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
writers = {writers!r}
for name, code in writers.items():
    path = Path(sys.argv[1]) / name
    def main():
        exec(code)
    try:
        run_cli(main)
    except SystemExit as end:
        assert end.code == 1, (name, end.code)
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='Windows has no limit on the size of files')
def test_a_full_disk_is_one_line_with_the_files_name_and_the_old_file_stays(tmp_path):
    for name in WRITERS:
        if name == 'folder':
            (tmp_path / name).mkdir()
            (tmp_path / name / 'a').write_text('old')
        else:
            (tmp_path / name).write_text('old')
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK.replace('{writers!r}', repr(WRITERS)), str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith('error: ')] == []
    assert [line.partition(': ')[2].partition(': ')[0] for line in lines] == [str(tmp_path / name) for name in WRITERS]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(WRITERS)
    assert all((tmp_path / name).read_text() == 'old' for name in WRITERS if name != 'folder')
    assert (tmp_path / 'folder' / 'a').read_text() == 'old'


def test_content_of_every_kind_and_long_names(tmp_path):
    for name, content in {'t': 'ä', 'b': b'\xc3\xa4', 'p': iter([b'\xc3', b'\xa4'])}.items():
        write_atomic(tmp_path / 'new' / name, content)
        assert (tmp_path / 'new' / name).read_text(encoding='utf-8') == 'ä'
    write_atomic(tmp_path / ('ä' * 127), 'x')  # 254 bytes
    assert (tmp_path / ('ä' * 127)).read_text() == 'x'


def test_what_fails_leaves_nothing_and_keeps_its_own_error(tmp_path):
    with pytest.raises(ValueError, match='mine'), replace_when_done(tmp_path / 'a') as temporary:
        temporary.write_text('half')
        raise ValueError('mine')
    with pytest.raises(FileNotFoundError) as error, replace_when_done(tmp_path / 'a'):
        (tmp_path / 'other').read_text()
    assert error.value.filename == str(tmp_path / 'other')
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(OSError) as error:
        write_atomic(tmp_path / 'file' / 'a', 'x')
    assert error.value.errno in (errno.EEXIST, errno.ENOTDIR) and 'file' in error.value.filename
    assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_folders_replace_folders(tmp_path):
    for value in (1, 2):
        with replace_when_done(tmp_path / 'parts', folder=True) as folder:
            (folder / 'deep').mkdir()
            np.save(folder / 'deep' / f'{value}.npy', value)
    assert [p.name for p in tmp_path.rglob('*')] == ['parts', 'deep', '2.npy']
    with pytest.raises(KeyError), replace_when_done(tmp_path / 'parts', folder=True) as folder:
        raise KeyError
    assert [p.name for p in tmp_path.rglob('*')] == ['parts', 'deep', '2.npy']


def test_an_error_that_hides_its_cause_stays_what_it_is(tmp_path):
    """A reader's one line, raised `from None` inside the block, is about another file."""
    with pytest.raises(ValueError, match='in.mp4: is no video'), replace_when_done(tmp_path / 'out.mp4'):
        try:
            (tmp_path / 'in.mp4').read_bytes()
        except OSError:
            raise ValueError('in.mp4: is no video') from None


def test_a_read_only_disk_is_named_by_the_file_itself(tmp_path, monkeypatch):
    """It refuses to remove what is not there with the same error."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, 'Read-only file system', str(path))

    monkeypatch.setattr(Path, 'unlink', refuse)
    with pytest.raises(OSError, match='Read-only') as error, replace_when_done(tmp_path / 'a') as temporary:
        refuse(temporary)
    assert error.value.filename == str(tmp_path / 'a')


def test_a_lock_that_another_user_has_left_stops_nobody(tmp_path, monkeypatch):
    """A folder of several people: each may write there, and none into the files of the others."""

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr(files, 'open', refuse, raising=False)
    with only_writer(tmp_path / 'run'):
        assert (tmp_path / 'run').is_dir()


@pytest.mark.skipif(os.name != 'posix', reason='needs POSIX locks')
def test_a_lock_is_gone_with_its_work(tmp_path, monkeypatch):
    """Also after an error; and who opens it just before it is removed is alone on a new one."""
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())
    first, opened = only_writer(tmp_path), []
    first.__enter__()

    def late(*args, **options):
        opened.append(open(*args, **options))  # noqa: SIM115
        if len(opened) == 1:
            first.__exit__(None, None, None)
        return opened[-1]

    monkeypatch.setattr(files, 'open', late, raising=False)
    with only_writer(tmp_path):
        assert os.path.samestat(os.fstat(opened[-1].fileno()), os.stat(tmp_path / '.in_use'))
    assert len(opened) == 2 and not list(tmp_path.iterdir())
