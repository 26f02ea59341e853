# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Get published weights by name, into the cache or into a folder; what is there already is not fetched again.

Example: sapiens download pose_308_0.3b
         sapiens download facebook/sapiens-pretrain-1b --out checkpoints
         sapiens download --list
Names are models or owner/name[@revision][:file] of the Hugging Face hub. HF_TOKEN, HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE hold as ever. Weights come under their authors' licence, which is shown.
"""

from __future__ import annotations

from ..errors import UserError
from . import options


def main() -> None:
    """Read the options and download."""
    parser = options.new_parser(__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME', help='model, or owner/name[@revision][:file]')
    parser.add_argument('--out', metavar='DIR', help='put a copy there; weights are found by name in checkpoints/')
    parser.add_argument('--list', action='store_true', help='list the models that are known to be published')
    args = parser.parse_args()
    if not args.names and not args.list:
        raise UserError('say what to download: a model of `sapiens download --list`, or owner/name of the hub')
    from ..engine import hub
    from ..engine.published import published

    if args.list:
        for item in published()['files']:
            print(f'{item.get("model") or "-":<14} {item["repository"]:<34} {item["licence"]}')
    # A name that is none is said before anything is fetched.
    for reference in [hub.named(name) for name in args.names]:
        print(hub.download(reference, args.out))
