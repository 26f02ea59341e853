# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Models of the hub, loaded from folders and files as a user would have them: small ones made here."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch

from sapiens.curation.labels import Classifier, ZeroShot
from sapiens.curation.stage import build_stages, open_item
from sapiens.errors import MissingPackageError, UserError
from sapiens.openmmlab import prepare_torchvision

THERE = bool(importlib.util.find_spec('transformers'))
needs_transformers = pytest.mark.skipif(not THERE, reason='transformers is not installed')
WORDS = ['<pad>', '<end>', 'a', 'photo', 'drawing', 'of', 'person', 'painting']
SMALL = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
EYE = dict(**SMALL, image_size=32, patch_size=8)


@pytest.fixture(scope='module')
def library():
    if importlib.util.find_spec('torchvision') is not None:
        prepare_torchvision()
    import transformers

    return transformers


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in ((40, 60), (90, 50), (32, 32))]


def save(folder, *parts):
    torch.manual_seed(0)
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


def score(images, **config):
    stage = build_stages({'stages': {'it': config}})[0]
    stage.load()
    data = [cv2.imencode('.png', image[..., ::-1])[1].tobytes() for image in images]
    return stage.score([open_item('x', d, 1280, 1e8) for d in data])


@needs_transformers
@pytest.mark.parametrize('kind', ['CLIP', 'Siglip'])
def test_zero_shot_says_what_the_library_says(kind, library, images, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token='<end>'))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing('$A <end>', special_tokens=[('<end>', 1)])
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token='<pad>', model_input_names=['input_ids', 'attention_mask']
    )
    text = dict(**SMALL, vocab_size=len(WORDS), max_position_embeddings=12, pad_token_id=0, bos_token_id=2,
                eos_token_id=1)  # fmt: skip
    options = dict(projection_dim=16) if kind == 'CLIP' else {}
    config = getattr(library, f'{kind}Config')(text_config=text, vision_config=EYE, **options)
    torch.manual_seed(0)
    network = getattr(library, f'{kind}Model')(config).eval()
    for part in network.parameters():
        torch.nn.init.normal_(part, std=0.5)
    eye = getattr(library, f'{kind}ImageProcessor')(size=dict(height=32, width=32), do_center_crop=False)
    tool = getattr(library, f'{kind}Processor')(eye, tokenizer)
    name = save(tmp_path, network, tool)

    prompts = dict(photo=('a photo of a person', 'a photo'), art=('a drawing', 'a painting of a person'))
    model = ZeroShot(prompts, name, device='cpu')
    assert model.labels == ('photo', 'art')
    lines = [line for group in prompts.values() for line in group]
    width = dict(padding='max_length', max_length=12) if kind == 'Siglip' else dict(padding=True)
    with torch.no_grad():
        inputs = tool(text=lines, images=images, return_tensors='pt', **width)
        shares = network(**inputs).logits_per_image.softmax(1).numpy()
    np.testing.assert_allclose(model(images), shares.reshape(3, 2, 2).sum(2), atol=1e-5)
    assert len({round(float(share), 6) for share in model(images)[:, 0]}) == 3  # it does look at the images

    rows = score(images, type='Labels', labels=['art'], model=dict(type='ZeroShot', name=name, prompts=prompts))
    np.testing.assert_allclose([row['it_art'] for row in rows], shares[:, 2:].sum(1), atol=1e-5)


@needs_transformers
def test_a_classifier_of_a_folder_says_what_the_library_says(library, images, tmp_path):
    labels = {0: 'normal', 1: 'nsfw', **{i: f'kind{i}' for i in range(2, 12)}}  # '10' sorts before '2'
    config = library.ViTConfig(**EYE, num_labels=12, id2label=labels)
    eye = library.ViTImageProcessor(size=dict(height=32, width=32))
    torch.manual_seed(0)
    network = library.ViTForImageClassification(config).eval()
    torch.nn.init.normal_(network.classifier.weight)
    name = save(tmp_path, network, eye)
    assert Classifier(name, 'cpu').labels == tuple(labels.values())
    rows = score(images, type='Labels', labels=['kind10', 'nsfw'], model=dict(type='Classifier', name=name))
    with torch.no_grad():
        expected = network(**eye(images, return_tensors='pt')).logits.softmax(1)
    np.testing.assert_allclose([row['it_nsfw'] for row in rows], expected[:, 1], atol=1e-5)
    np.testing.assert_allclose([row['it_kind10'] for row in rows], expected[:, 10], atol=1e-5)
    with pytest.raises(UserError, match="stage 'it': its model has no label 'porn'; it has normal, nsfw, kind2"):
        score(images, type='Labels', labels=['porn'], model=dict(type='Classifier', name=name))


@needs_transformers
@pytest.mark.parametrize('kind', ['Dinov2', 'ViTMAE'])
def test_features_of_a_folder(kind, library, images, tmp_path):
    """With a pooled output and without, where the class token stands for it."""
    options = {**EYE, 'mlp_ratio': 1} if kind == 'Dinov2' else {**EYE, 'mask_ratio': 0.0}
    torch.manual_seed(0)
    network = getattr(library, f'{kind}Model')(getattr(library, f'{kind}Config')(**options)).eval()
    eye = library.ViTImageProcessor(size=dict(height=32, width=32))
    name = save(tmp_path, network, eye)
    rows = score(images, type='Embedding', model=dict(type='TransformersEncoder', name=name))
    with torch.no_grad():
        expected = network(**eye(images, return_tensors='pt')).last_hidden_state[:, 0].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack([row['embedding'] for row in rows]), expected, atol=2e-3)


@needs_transformers
def test_a_model_that_cannot_be_had_is_one_line(library, tmp_path, monkeypatch):
    config = library.ViTConfig(**EYE, num_labels=2)
    name = save(tmp_path / 'vit', library.ViTForImageClassification(config), library.ViTImageProcessor())

    def told():
        with pytest.raises(UserError, match=f"the model '{name}' cannot be loaded .*; give a folder") as found:
            Classifier(name, 'cpu')
        assert len(str(found.value).splitlines()) == 1 and len(str(found.value)) < 400
        return str(found.value)

    weights = tmp_path / 'vit/model.safetensors'
    weights.write_bytes(weights.read_bytes()[:900])
    told()
    weights.unlink()
    # Pickles run code: they are not looked at, and the message says what is missing.
    torch.save({}, tmp_path / 'vit/pytorch_model.bin')
    assert 'safetensors' in told()
    (tmp_path / 'vit/config.json').write_text('{"model_type": "vi')
    told()
    (tmp_path / 'vit/config.json').write_text(json.dumps({'model_type': 'unheard_of'}))
    told()
    name = str(tmp_path / 'nothing')
    told()


@pytest.mark.skipif(THERE, reason='transformers is there')
def test_without_transformers_it_says_how_to_get_it():
    with pytest.raises(MissingPackageError, match="needs transformers: pip install 'transformers'"):
        Classifier('Falconsai/nsfw_image_detection')


def varint(value):
    out = b''
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A field of a protocol buffer, which ONNX files are."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value % 2**64)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def node(kind, inputs, output, **lists):
    attributes = (field(1, k) + b''.join(field(8, v) for v in values) + field(20, 7) for k, values in lists.items())
    return field(1, b''.join(field(1, i) for i in inputs) + field(2, output) + field(4, kind)
                 + b''.join(field(5, a) for a in attributes))  # fmt: skip


def tensor(name, array):
    dims = b''.join(field(1, d) for d in array.shape)
    return field(5, dims + field(2, {'f': 1, 'i': 7}[array.dtype.kind]) + field(8, name) + field(9, array.tobytes()))


def port(number, name, dims):
    shape = b''.join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, shape))))


def blue_faces():
    """An ONNX file with the inputs and outputs of YuNet, to which a face is 32 pixels of pure blue."""
    graph, outputs = b'', b''
    for part, width in dict(cls=1, obj=1, bbox=4, kps=10).items():
        for stride in (8, 16, 32):
            name, weight = f'{part}_{stride}', np.zeros((width, 3, 1, 1), np.float32)
            if width == 1 and stride == 32:
                weight[0, :, 0, 0] = 1 / 255, -1 / 255, -1 / 255
            graph += tensor(f'weight_{name}', weight) + tensor(f'shape_{name}', np.array([1, width, -1]))
            graph += node('AveragePool', ['input'], f'pool_{name}', kernel_shape=[stride] * 2, strides=[stride] * 2)
            graph += node('Conv', [f'pool_{name}', f'weight_{name}'], f'conv_{name}', kernel_shape=[1, 1])
            graph += node('Reshape', [f'conv_{name}', f'shape_{name}'], f'flat_{name}')
            graph += node('Transpose', [f'flat_{name}'], name, perm=[0, 2, 1])
            outputs += port(12, name, [1, 'n', width])
    graph += field(2, 'faces') + port(11, 'input', [1, 3, 'h', 'w']) + outputs
    return field(1, 7) + field(8, field(2, 11)) + field(7, graph)


def test_yunet_from_a_file(tmp_path):
    """Boxes come back in pixels of the image, which was shrunk by two; blue is blue, not red."""
    path = tmp_path / 'faces.onnx'
    path.write_bytes(blue_faces())
    image = np.zeros((1024, 1280, 3), np.uint8)
    image[128:192, 64:128] = 0, 0, 255
    image[640:704, 640:704] = 255, 0, 0
    detector = dict(type='YuNetDetector', path=str(path))
    first, second = score([image, image[512:, 512:]], type='Faces', detector=detector)
    # A cell of zeros for its box is a square of 32 around its upper left corner.
    np.testing.assert_allclose(first['faces'], [32, 96, 96, 160, 1], atol=1e-3)
    assert second['faces'] == []
    path.write_bytes(b'no model')
    for file, words in (
        (path, 'cannot read this face model'),
        (tmp_path / 'none.onnx', 'no such face model; check the path'),
    ):
        with pytest.raises(UserError, match=f'{file}: .*{words}') as found:
            score([], type='Faces', detector=dict(type='YuNetDetector', path=str(file)))
        assert len(str(found.value).splitlines()) == 1
