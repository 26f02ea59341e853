# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Weights by name, from a stand-in of the hub on this machine that huggingface_hub is pointed to by HF_ENDPOINT."""

import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
import torch
from warm import start_warm

pytest.importorskip('huggingface_hub')

from sapiens.engine.files import CheckpointError, read_checkpoint
from sapiens.engine.hub import HubError, Reference, origin_of, parse_reference, resolve_weights
from sapiens.engine.published import published

ROOT = Path(__file__).parents[2]
COMMITS = {'main': '1' * 40, 'v1': '2' * 40}
CARD = '---\nlicense: other\nlicense_name: our-own\nlicense_link: https://example.com/terms\n---\n# Model\n'


class StandIn(ThreadingHTTPServer):
    """Serves repositories as the hub does: lists, heads, ranges, commits, and its codes of errors.

    Attributes:
        repositories: Name -> revision -> file -> content.
        seen: Count of requests by kind.
        ranges: Where requests for the rest of a file began.
        tokens: What came as authorisation.
        stall: Names of files that are served to their half, then no further until the client goes.
        cut: Names of files whose connection breaks at their half, once.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.repositories, self.seen, self.ranges = {}, Counter(), []
        self.stall, self.cut, self.tokens = set(), set(), set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def refuse(self, status, code):
        self.answer(status, {'X-Error-Code': code}, b'{"error": "no"}')

    def answer(self, status, headers, body=b''):
        self.send_response(status)
        for key, value in {'Content-Length': len(body), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition('?')[0]
        self.server.tokens |= set(filter(None, [self.headers.get('Authorization')]))
        listed = re.fullmatch(r'/api/models/([^/]+/[^/]+)(?:/revision/(.+))?', path)
        file = re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path)
        name, revision = (listed or file).groups()[:2] if listed or file else ('', None)
        repository = self.server.repositories.get(name)
        if repository is None:
            return self.refuse(401, 'RepoNotFound')
        revision = next((r for r, commit in COMMITS.items() if commit == revision), revision or 'main')
        if revision not in repository:
            return self.refuse(404, 'RevisionNotFound')
        files = repository[revision]
        if listed:
            self.server.seen['list'] += 1
            siblings = [{'rfilename': name, 'size': len(content), 'blobId': '0'} for name, content in files.items()]
            about = {'id': name, 'sha': COMMITS[revision], 'private': False, 'tags': [], 'siblings': siblings}
            return self.answer(200, {'Content-Type': 'application/json'}, json.dumps(about).encode())
        if 'gated' in name:
            return self.refuse(403, 'GatedRepo')
        if file[3] not in files:
            return self.refuse(404, 'EntryNotFound')
        content = files[file[3]]
        head = {'ETag': f'"{hashlib.sha256(content).hexdigest()}"', 'X-Repo-Commit': COMMITS[revision],
                'Accept-Ranges': 'bytes', 'Content-Length': len(content)}  # fmt: skip
        if self.command == 'HEAD':
            return self.answer(200, head)
        self.server.seen[file[3]] += 1
        asked = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        start = int(asked[1]) if asked else 0
        if asked:
            self.server.ranges.append(start)
            head['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        stalled, broken = file[3] in self.server.stall, file[3] in self.server.cut
        self.send_response(206 if asked else 200)
        for key, value in {**head, 'Content-Length': len(content) - start}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(content[start : len(content) // 2 if stalled or broken else None])
        if stalled:
            while file[3] in self.server.stall:
                time.sleep(0.05)
        if stalled or broken:
            self.server.cut.discard(file[3])
            self.close_connection = True
        return None


@pytest.fixture(scope='module')
def hub():
    server = StandIn()
    yield server
    server.shutdown()


HELPERS = """
import json
from sapiens.engine.hub import *
def show(*values):
    print('@' + json.dumps(values, default=str))
def refused(call, *arguments):
    try:
        show(call(*arguments))
    except UserError as error:
        show(type(error).__name__, str(error))
"""


def client(hub, home, code, cwd, **more):
    """Run Python against the stand-in; returns its lines of JSON and what it showed."""
    with NamedTemporaryFile('r+') as out, NamedTemporaryFile('r+') as err:
        settings = {'HF_ENDPOINT': hub.address, 'HF_HOME': str(home), **more}
        done = start_warm(HELPERS + code, out.name, err.name, cwd=cwd, **settings)
        done.join()
        lines, shown = out.read(), err.read()
    assert done.exitcode == 0, shown[-3000:]
    return [json.loads(line[1:]) for line in lines.splitlines() if line.startswith('@')], shown


def test_names():
    assert parse_reference('pose_308_0.3b') == Reference('facebook/sapiens-pose-0.3b')
    assert parse_reference('pose_17_1b').file.endswith('sapiens_1b_coco_best_coco_AP_821.pth')
    assert parse_reference('a/b@v1:c/d.pth') == Reference('a/b', 'v1', 'c/d.pth')
    assert parse_reference('hf://a/b/c/d.pth') == Reference('a/b', None, 'c/d.pth')
    assert parse_reference('hf://a/b@v1/d.pth') == Reference('a/b', 'v1', 'd.pth')
    address = 'https://huggingface.co/a/b/resolve/main/c.pth?download=true'
    assert parse_reference(address) == Reference('a/b', 'main', 'c.pth')
    for path in (
        'checkpoints/a.pth',
        './a/b',
        '/a/b',
        'a/b/c',
        'C:\\a\\b',
        '~/a',
        'tests/engine2',
        'a.pth',
        'pose_308',
    ):
        assert parse_reference(path) is None, path
    files = published()['files']
    assert len({(i['repository'], i['file']) for i in files}) == len(files)
    assert all(i['licence'] in published()['licences'] for i in files)


def test_a_misspelled_name_is_said_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="pose_308_1B: no such checkpoint file; did you mean 'pose_308_1b'"):
        read_checkpoint('pose_308_1B')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.HfApi.model_info', lambda *_, **__: (_ for _ in ()).throw(ConnectionError()))
    with pytest.raises(HubError, match='did you mean facebook/sapiens-pose-1b.*HF_HUB_OFFLINE'):
        resolve_weights('facebook/sapiens-pose-1B')


def test_the_page_of_weights_lists_what_is_published():
    text = (ROOT / 'docs' / 'weights.md').read_text()
    rows = re.findall(r'^\| (`.+?`.*?) \| `(\S+)`.* \| (.+) \|$', text, re.MULTILINE)
    listed = {
        (f'{model}_{size}', repository.replace('SIZE', size))
        for names, repository, sizes in rows
        for model in re.findall('`(\\w+)`', names)
        for size in sizes.split(', ')
    }
    assert listed == {(i['model'], i['repository']) for i in published()['files'] if 'model' in i}


def test_a_published_file_at_hand_is_found_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'checkpoints' / 'sapiens_1b_epoch_173_clean.pth'
    file.parent.mkdir()
    torch.save({'a': torch.ones(1)}, file)
    assert resolve_weights('facebook/sapiens-pretrain-1b').resolve() == file
    assert origin_of(file)['repository'] == 'facebook/sapiens-pretrain-1b' and 'BY-NC' in origin_of(file)['licence']
    with pytest.raises(HubError, match='HF_HUB_OFFLINE'):  # a revision is asked for, which the file cannot prove
        resolve_weights('facebook/sapiens-pretrain-1b@main')


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'pip install .sapiens-toolkit\[hub\]'):
        resolve_weights('facebook/sapiens-pose-0.3b')


def test_download_interruption_pins_and_offline(hub, tmp_path):
    stem = 'sapiens_0.3b_goliath_best_goliath_AP_573.pth'
    torch.save({'state_dict': {'a': torch.arange(6500000.0)}}, tmp_path / 'weights')
    weights = (tmp_path / 'weights').read_bytes()
    other = torch.save({'b': torch.ones(1)}, tmp_path / 'other') or (tmp_path / 'other').read_bytes()
    hub.repositories = {
        'facebook/sapiens-pose-0.3b': {'main': {stem: weights, 'README.md': b'', '.gitattributes': b''}},
        'mine/model': {'main': {'new.safetensors': weights, 'pytorch_model.bin': other, 'README.md': CARD.encode()},
                       'v1': {'old.pth': other, 'README.md': CARD.encode()}},
        'mine/two': {'main': {'a.pth': other, 'b/c.pth': other}},
        'mine/none': {'main': {'a.txt': b''}},
        'mine/gated-model': {'main': {'a.pth': other}},
        'mine/shaky': {'main': {'shaky.pth': weights}},
    }  # fmt: skip
    home = tmp_path / 'home'

    # A first run is killed in the middle; the next one goes on there. (The library writes pieces of 10 MB.)
    hub.stall.add(stem)
    code = "from sapiens.engine.hub import download; download('pose_308_0.3b')"
    settings = dict(cwd=tmp_path, HF_ENDPOINT=hub.address, HF_HOME=str(home))
    process = start_warm(code, tmp_path / 'out', tmp_path / 'first', **settings)
    while process.is_alive() and not any(p.stat().st_size for p in home.rglob('*.part')):
        time.sleep(0.05)
    time.sleep(0.2)
    process.kill()
    process.join()
    hub.stall.clear()
    hub.cut.add('shaky.pth')  # and this connection breaks once
    (part,) = home.rglob('*.part')
    got = part.stat().st_size
    assert 0 < got < len(weights)

    lines, shown = client(
        hub,
        home,
        """
from sapiens.apis.loading import find_weights
from sapiens.engine.files import read_checkpoint
path = resolve_weights('facebook/sapiens-pose-0.3b')
show(path, path.read_bytes() == open('weights', 'rb').read(), read_checkpoint('pose_308_0.3b')[1]['origin'])
show(find_weights('pose_308_0.3b', Path('sapiens_0.3b_308kpt.py')) == path)
show(*(resolve_weights(f'mine/model{more}').name for more in ('', '@v1', ':pytorch_model.bin')))
show(origin_of(resolve_weights('mine/model@v1')))
show(download('mine/model', 'here'), open('here/new.safetensors', 'rb').read() == open('weights', 'rb').read())
show(download('mine/shaky').read_bytes() == open('weights', 'rb').read())
refused(resolve_weights, 'mine/two')
refused(resolve_weights, 'mine/none')
refused(resolve_weights, 'mine/two:d.pth')
refused(resolve_weights, 'mine/model@v2')
refused(resolve_weights, 'mine/gated-model')
refused(resolve_weights, 'facebook/sapiens-pose-03b')
refused(download, 'pose_308_0.2b')
shutil.disk_usage = lambda path: type('', (), {'free': 1000})
refused(resolve_weights, 'mine/two:b/c.pth')
""",
        tmp_path,
        HF_TOKEN='hf_secret',
        TQDM_POSITION='-1',  # a progress bar although this is no terminal
    )
    assert hub.ranges[0] == got and hub.seen[stem] == 2  # continued, then never asked for again
    assert not hub.cut and hub.seen['shaky.pth'] == 2 and hub.tokens == {'Bearer hf_secret'}
    origin = {'repository': 'facebook/sapiens-pose-0.3b', 'revision': COMMITS['main'], 'file': stem}
    assert lines[0][1] is True and lines[0][2] == {**lines[0][2], **origin} and 'BY-NC' in lines[0][2]['licence']
    assert lines[1:3] == [[True], ['new.safetensors', 'old.pth', 'pytorch_model.bin']]
    assert lines[3][0]['revision'] == COMMITS['v1'] and lines[3][0]['licence'] == 'our-own'
    assert lines[3][0]['licence_url'] == 'https://example.com/terms' and lines[4][1] and lines[5][0]
    wanted = [
        "several files of weights: choose one, e.g. 'mine/two:a.pth'",
        'holds no file of weights',
        "holds no file 'd.pth' .it has a.pth, b/c.pth.",
        "has no revision 'v2'",
        r'gated: accept its terms at http.*/mine/gated-model, then sign in with `hf auth login` or set HF_TOKEN',
        'did you mean facebook/sapiens-pose-0.3b',
        "did you mean 'pose_308_0..b'",
        'needs 0.00 GB, .* has 0.00 GB free; free some space or set HF_HOME',
    ]
    for line, pattern in zip(lines[6:], wanted, strict=True):
        assert re.search(pattern, line[1]), line
        assert '\n' not in line[1] and line[0] == 'HubError'
    # Shown when something of a repository is first downloaded, in the first of the two runs.
    shown = (tmp_path / 'first').read_text() + shown
    assert shown.count('facebook/sapiens-pose-0.3b: licence CC BY-NC 4.0') == 1
    assert shown.count('mine/model: licence our-own (https://example.com/terms)') == 1
    assert '100%' in shown

    # Without the hub, and when it is forbidden: what is in the cache is used, the rest is one line.
    offline = "show(resolve_weights('facebook/sapiens-pose-0.3b').name, resolve_weights('mine/model@v1').name)\n"
    offline += "refused(resolve_weights, 'facebook/sapiens-seg-0.3b')"
    lines, _ = client(hub, home, offline, tmp_path, HF_HUB_OFFLINE='1')
    assert lines[0] == [stem, 'old.pth'] and re.search('not in the cache .*HF_HUB_OFFLINE forbids', lines[1][1])
    lines, _ = client(hub, home, offline, tmp_path, HF_ENDPOINT='http://127.0.0.1:9')
    assert lines[0] == [stem, 'old.pth'] and re.search('127.0.0.1:9. cannot be reached .ConnectError', lines[1][1])
