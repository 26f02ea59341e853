# Photos of people, as the paper chose its 300 million: no watermark, text, art or unnatural image, somebody found with
# a score above 0.9 in a box of more than 300 pixels. Models come from the hub, or from folders (name=...), all under
# permissive licences. For `sapiens curate`; what needs no download is in humans_offline.py.
#
# reject: thresholds that decide; changing them repeats only the last job. gate: looser ones; what they drop, later
# (dearer) stages do not look at. resources: of a stage's processes; GPUs count where there are any.
cheap = dict(resources=dict(num_cpus=1, batch_size=32))
model = dict(resources=dict(num_cpus=1, num_gpus=0.5, batch_size=32))
siglip = 'google/siglip2-base-patch16-224'

# fmt: off
stages = dict(
    size=dict(type='ImageSize', reject=dict(min_side=300, max_aspect=3), gate=dict(min_side=224), **cheap),
    quality=dict(type='Quality', reject=dict(min_sharpness=4, min_contrast=12, max_clipped=0.6), **cheap),
    hash=dict(type='PerceptualHash', **cheap),
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
    text=dict(type='Text', reject=dict(max_share=0.005, max_letters=12), **cheap),
)
# fmt: on
# Duplicates of a kept image: hashes (also of the mirror) of at most that many different bits, or features of at least
# that cosine. The search goes as far as search_*; within it the thresholds can be moved without searching again.
duplicates = dict(max_bits=4, min_cosine=0.95, search_bits=8, search_cosine=0.9)
# Files as they are, or short_side=1024: shrunk to it as JPEG of that quality.
pack = dict(samples=1000, short_side=None, quality=90, shuffle=True, seed=0)

view = 1280  # stages see large JPEGs decoded at 1/2, 1/4 or 1/8, but never below this many pixels
max_pixels = 2e8  # what claims more is not decoded
max_failed = 0.2  # a stage that fails on a larger share stops the run
part_size, block = 1_000_000, 1000  # images in a run of Ray Data, and in a file of the list
block_mb = 64  # memory of a block
