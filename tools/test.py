# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Test a checkpoint with a config: print the metrics, and write predictions and pictures when asked.

Usage: python tools/test.py CONFIG CHECKPOINT [--out DIR] [--show-dir DIR] [--cfg-options key=value ...]
Several processes: tools/dist_test.sh CONFIG CHECKPOINT NUMBER [options].
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Read the options and test."""
    from sapiens.engine import cli
    from sapiens.engine.files import replace_when_done, to_plain

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_common_options(parser)
    parser.add_argument('checkpoint', help='.pth or .safetensors file')
    parser.add_argument('--out', help='folder for metrics.json and one .npz of predictions per sample')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    args = parser.parse_args()

    config = cli.prepare(args)
    if config.get('test_dataloader') is None:
        raise UserError(f'{args.config}: has no test_dataloader, there is nothing to test on')
    if not Path(args.checkpoint).is_file():
        raise UserError(f'{args.checkpoint}: no such checkpoint; check the path')
    config.load_from, config.resume = args.checkpoint, False
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        config[key] = None
    hook = dict(type='ResultHook', out_dir=args.out and str(Path(args.out) / 'predictions'), show_dir=args.show_dir)
    config.custom_hooks = [hook] if args.out or args.show_dir else []
    metrics = cli.build_runner(config).test()
    if args.out:
        from mmengine.dist import is_main_process

        if is_main_process():
            with replace_when_done(Path(args.out) / 'metrics.json') as temporary:
                temporary.write_text(json.dumps(to_plain(metrics), indent=1), encoding='utf-8')


if __name__ == '__main__':
    run_cli(main)
