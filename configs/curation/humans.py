# Photos of people, as the paper chose its 300 million: no watermark, text, art or unnatural image, somebody found with
# a score above 0.9 in a box of more than 300 pixels. Models come from the hub, or from folders (name=...), all under
# permissive licences. For `sapiens curate`; what needs no download is in humans_offline.py.
_base_ = '../_base_/curation.py'
model = dict(resources=dict(num_cpus=1, num_gpus=0.5, batch_size=32))
siglip = 'google/siglip2-base-patch16-224'

# fmt: off
stages = dict(
    persons=dict(
        type='Persons',
        detector=dict(type='TransformersDetector', name='PekingU/rtdetr_v2_r50vd', threshold=0.3),
        reject=dict(min_score=0.9, min_side=300),
        gate=dict(min_score=0.5, min_side=150), **model,
    ),
    embedding=dict(type='Embedding', model=dict(type='TransformersEncoder', name='facebook/dinov2-small'), **model),
    content=dict(
        type='Labels', labels=('art', 'unnatural'), reject=dict(art=0.5, unnatural=0.5), **model,
        model=dict(type='ZeroShot', name=siglip, prompts=dict(
            photo=('a photo of a person', 'a photo of people', 'a snapshot', 'a selfie'),
            art=('a drawing', 'a painting', 'a cartoon', 'an anime picture', 'a comic', 'a statue', 'a toy'),
            unnatural=('a 3D rendering', 'a screenshot', 'a collage', 'a video game', 'a mannequin', 'a meme'),
        )),
    ),
    watermark=dict(
        type='Labels', labels=('watermark',), reject=dict(watermark=0.6), **model,
        model=dict(type='ZeroShot', name=siglip, prompts=dict(
            clean=('a photo', 'a photo without any text'),
            watermark=('a photo with a watermark', 'a stock photo with a watermark', 'a photo with a logo over it'),
        )),
    ),
    nsfw=dict(
        type='Labels', labels=('nsfw',), reject=dict(nsfw=0.5), **model,
        model=dict(type='Classifier', name='Falconsai/nsfw_image_detection'),
    ),
    text=dict(type='Text', reject=dict(max_share=0.005, max_letters=12), resources=dict(num_cpus=1, batch_size=32)),
)
# fmt: on
