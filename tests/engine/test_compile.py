# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""``--compile`` compiles what takes the time: every layer of encoders and decoders, and the heads."""

from collections import Counter

import pytest
import torch

MAE = dict(
    type='MAEPretrainer',
    backbone=dict(
        type='SapiensViT',
        arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64),
        img_size=(64, 48),
        drop_path_rate=0.2,
    ),
    neck=dict(type='MAEDecoder', embed_dims=16, num_layers=2, num_heads=2),
)


@pytest.mark.parametrize(('kind', 'layers', 'deconvolutions'), [('mae', 5, 0), ('pose', 2, 4)])
@pytest.mark.usefixtures('on_cpu')
def test_the_compiled_graphs_hold_the_encoder(toy_config, train, kind, layers, deconvolutions):
    """The encoder of a masked autoencoder was left out, since its parts were called and not the whole."""
    calls = Counter()

    def backend(graph, inputs):
        inside = Counter(str(node.target) for node in graph.graph.nodes if node.op == 'call_function')

        def run(*args):
            calls.update(inside)
            return graph(*args)

        return run

    torch._dynamo.register_backend(backend, name=f'count_{kind}')
    if kind == 'mae':
        toy_config.model = MAE
    toy_config.train_cfg.update(max_iters=1)
    toy_config.val_cfg = toy_config.val_dataloader = toy_config.val_evaluator = None
    expected, _ = train(toy_config, 'eager')
    toy_config.compile = dict(backend=f'count_{kind}')
    torch._dynamo.reset()
    compiled, _ = train(toy_config, 'compiled')
    torch._dynamo.reset()
    assert sum(n for name, n in calls.items() if 'gelu' in name) == layers
    assert sum(n for name, n in calls.items() if 'conv_transpose2d' in name) == deconvolutions
    names = [name for name, _ in expected.model.named_parameters()]
    assert names == [name for name, _ in compiled.model.named_parameters()]
    for one, other in zip(expected.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
