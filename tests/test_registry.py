# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Registries: names, typos, scopes, and what importing the core does not import."""

import subprocess
import sys
import textwrap

import pytest
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope

from sapiens import openmmlab, registry
from sapiens.errors import MissingPackageError, UserError
from sapiens.registry import CODECS, DATASETS, HOOKS, MODELS, TRANSFORMS, UnknownNameError


def python(code):
    return subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True)


OWN = ('CODECS', 'DETECTORS', 'CURATION_STAGES', 'CURATION_MODELS')  # of which mmengine has none


def test_every_registry_is_a_child_of_mmengines():
    for name in dir(registry):
        value = getattr(registry, name)
        if isinstance(value, registry.Registry) and name not in OWN:
            assert value.scope == 'sapiens'
            assert value.parent is getattr(registry.root, name)


def test_names_with_and_without_scope_and_of_mmengine():
    assert MODELS.get('PoseHead') is MODELS.get('sapiens.PoseHead') is ROOT_MODELS.get('sapiens.PoseHead')
    assert MODELS.get('BaseDataPreprocessor').__module__.startswith('mmengine')
    assert MODELS.get('torch.nn.Linear').__name__ == 'Linear'
    assert 'PoseHead' in MODELS and 'PoseHed' not in MODELS


@pytest.mark.parametrize(
    ('where', 'name', 'message'),
    [
        (MODELS, 'SapienViT', "'SapienViT' is not a registered model; did you mean 'SapiensViT'?"),
        (MODELS, 'sapiens.PartHed', "'sapiens.PartHed' is not a registered model; did you mean 'PartHead'?"),
        (CODECS, 'UDPHeatmaps', "'UDPHeatmaps' is not a registered codec; did you mean 'UDPHeatmap'?"),
        (MODELS, 'Qwertyuiop', "'Qwertyuiop' is not a registered model"),
        (MODELS, 'nobody.SapiensViT2', "'nobody.SapiensViT2' is not a registered model; did you mean 'SapiensViT'?"),
    ],
)
def test_typos_name_the_nearest(where, name, message):
    with pytest.raises(UnknownNameError) as error:
        where.build(dict(type=name))
    assert str(error.value) == message
    # A user error (one line, exit code 1) and, as mmengine expects, a KeyError.
    assert isinstance(error.value, UserError) and isinstance(error.value, KeyError)


@pytest.mark.openmmlab
@pytest.mark.skipif(not openmmlab.toolkit_installed('mmseg'), reason='needs mmsegmentation')
@pytest.mark.parametrize(('where', 'name'), [(DATASETS, 'BaseSegDataset'), (HOOKS, 'SegVisualizationHook')])
def test_names_of_the_toolkits_are_told_from_typos(where, name):
    with pytest.raises(UnknownNameError, match=f"'{name}' is a .* of mmseg: write 'mmseg.{name}', or leave it out"):
        where.build(dict(type=name))


def test_mistakes_inside_a_nested_config_keep_their_message():
    config = dict(type='PoseHead', in_channels=8, vocabulary='coco18', codec=dict(type='UDPHeatmap'))
    with pytest.raises(UserError, match="unknown vocabulary 'coco18'"):
        MODELS.build(
            dict(type='HumanEstimator', backbone=dict(type='SapiensViT', arch='tiny'), heads=dict(pose=config))
        )


def test_a_toolkit_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(openmmlab, 'toolkit_installed', lambda name: False)
    with pytest.raises(MissingPackageError, match="'mmpose' is not installed: pip install 'sapiens-toolkit\\[openm"):
        TRANSFORMS.get('mmpose.LoadImage')
    assert 'mmpose.LoadImage' not in TRANSFORMS


def test_inside_another_scope_our_models_find_their_own_parts():
    """As in a toolkit's runner, whose default scope is not ours."""
    with DefaultScope.overwrite_default_scope('elsewhere'):
        model = ROOT_MODELS.build(
            dict(
                type='sapiens.HumanEstimator',
                backbone=dict(type='sapiens.SapiensViT', arch='tiny', img_size=(64, 48)),
                heads=dict(
                    pose=dict(type='sapiens.PoseHead', vocabulary='coco17', codec=dict(type='sapiens.UDPHeatmap'),
                              deconv_channels=(8,), conv_channels=(8,)),
                    depth=dict(type='sapiens.DepthHead', deconv_channels=(8,), conv_channels=(8,)),
                    normal=dict(type='sapiens.NormalHead', deconv_channels=(8,), conv_channels=(8,)),
                    seg=dict(type='sapiens.PartHead', vocabulary='parts20', deconv_channels=(8,), conv_channels=(8,)),
                ),
            )
        )  # fmt: skip
    assert type(model).__name__ == 'HumanEstimator' and len(model.heads) == 4


def test_the_core_imports_no_toolkit():
    code = """
        import sys
        import sapiens, sapiens.models, sapiens.codecs, sapiens.vocabularies, sapiens.structures
        from sapiens.registry import MODELS
        MODELS.get('SapiensViT')
        heavy = {'mmpose', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'mmcv.ops', 'matplotlib.pyplot', 'scipy'}
        print(sorted(heavy & set(sys.modules)))
    """
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == '[]'


def test_torchvision_is_left_alone_where_it_matches(monkeypatch, tmp_path):
    """A second declaration of its operators would break a matching build (every Mac, every CPU wheel)."""
    for version, needs in (("'0.28.0+cu130'", True), ("'0.28.0+cpu'", False), ("'0.28.0'", False)):
        folder = tmp_path / version.strip("'") / 'torchvision'
        folder.mkdir(parents=True)
        (folder / '__init__.py').write_text('raise ImportError("must not be imported")')
        (folder / 'version.py').write_text(f'__version__ = {version}\ngit_version = "x"\n')
        spec = type('Spec', (), {'origin': str(folder / '__init__.py')})
        monkeypatch.setattr(openmmlab.importlib.util, 'find_spec', lambda name, spec=spec: spec)
        assert openmmlab._torchvision_needs_cuda() is needs
    monkeypatch.setattr(openmmlab.importlib.util, 'find_spec', lambda name: None)
    assert openmmlab._torchvision_needs_cuda() is False
