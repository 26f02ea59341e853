# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Documents with a few values replaced or removed, for tests of readers."""

import copy

VALUES = [None, True, -1, 0, 2, 1e999, float('nan'), 10**400, 1e30, '', 'x', '1', [], [[]], {}, [None], {'id': 1},
          ['a', 1], [1, [2]], 'ä\x00', [[1, 2], [3]]]  # fmt: skip


def mutate(document, rng):
    """A copy with a few values replaced or removed somewhere."""
    document = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        node = document
        while isinstance(node, (dict, list)) and node:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            key = keys[rng.integers(len(keys))]
            if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.25:
                if rng.random() < 0.2:
                    del node[key]
                else:
                    node[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
                break
            node = node[key]
    return document
