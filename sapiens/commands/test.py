# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Test a checkpoint with a config: print the tables, and write figures, predictions and pictures when asked.

Example: sapiens test configs/pose/sapiens_tiny_133kpt.py work_dirs/sapiens_tiny_133kpt/iter_1000.pth --out results
The predictions that --out writes (results_TASK) are scored again, without the model, by tools/eval_results.py.
Several processes: tools/dist_test.sh CONFIG CHECKPOINT NUMBER [options].
"""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UserError
from . import options


def main() -> None:
    """Read the options and test."""
    parser = options.new_parser(__doc__)
    options.add_run_options(parser)
    parser.add_argument('checkpoint', help='file of weights, or the name of published ones')
    parser.add_argument('--out', help='folder for figures (metrics.json, report.*) and predictions (results_TASK)')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument(
        '--show-worst',
        type='number',
        default=0,
        metavar='N',
        help='draw the N worst images of each metric with their errors',
    )
    parser.add_argument(
        '--bootstrap',
        type='number',
        default=0,
        metavar='N',
        help='95%% confidence intervals from N resamples of the images',
    )
    args = parser.parse_args()
    from mmengine.dist import is_main_process

    from ..engine import cli
    from ..engine.complete import heads_of
    from ..engine.files import check_file
    from ..engine.hub import resolve_weights
    from ..engine.unpickle import to_plain
    from ..evaluation import evaluator_for_test, finish_test, protocol_of_run
    from ..evaluation.saved import FIELDS
    from ..evaluation.tables import plain_number
    from ..utils.files import write_atomic

    config = cli.prepare(args)
    if config.get('test_dataloader') is None:
        raise UserError(f'{args.config}: has no test_dataloader, there is nothing to test on')
    args.checkpoint = str(resolve_weights(args.checkpoint))
    check_file(Path(args.checkpoint))
    for option, folder in (('--out', args.out), ('--show-dir', args.show_dir)):
        if folder and Path(folder).exists() and not Path(folder).is_dir():
            raise UserError(f'{option} {folder}: is a file; give a folder')
    config.load_from, config.resume = args.checkpoint, False
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        config[key] = None
    config.test_evaluator = evaluator_for_test(config.test_evaluator, args.out, args.bootstrap, args.show_worst)
    saved = any(metric['type'] == 'SavePredictions' for metric in config.test_evaluator)
    own = {*heads_of(config)} - {'pose', *FIELDS}
    # Predictions of metrics and heads that are not ours are kept as arrays.
    arrays = str(Path(args.out) / 'predictions') if args.out and (own or not saved) else None
    hook = dict(type='ResultHook', out_dir=arrays, show_dir=args.show_dir)
    config.custom_hooks = [hook] if arrays or args.show_dir else []
    runner = cli.build_runner(config)
    metrics = runner.test()
    if is_main_process():
        worst = Path(args.out or config.work_dir) / 'worst' if args.show_worst else None
        protocol = protocol_of_run(config, args.config, args.checkpoint, runner.precision)
        for path in finish_test(runner.test_loop.evaluator, args.out, worst, protocol):
            print(f'written: {path}')
        if args.out:
            figures = {k: plain_number(v) if isinstance(v, float) else v for k, v in to_plain(metrics).items()}
            write_atomic(Path(args.out) / 'metrics.json', json.dumps(figures, indent=1))
