# What all curation shares: filters that need no model, duplicates, shards.
#
# reject: thresholds that decide; changing them repeats only the last job. gate: looser ones; what they drop, later
# (dearer) stages do not look at. resources: of a stage's processes; GPUs count where there are any.
cheap = dict(resources=dict(num_cpus=1, batch_size=32))

stages = dict(
    size=dict(type='ImageSize', reject=dict(min_side=300, max_aspect=3), gate=dict(min_side=224), **cheap),
    quality=dict(type='Quality', reject=dict(min_sharpness=4, min_contrast=12, max_clipped=0.6), **cheap),
    hash=dict(type='PerceptualHash', **cheap),
)
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
