# The model that ships with the toolkit: all four tasks on one tiny encoder, 256 x 192 (H x W), see docs/model_zoo.md.
_base_ = [
    '../_base_/zoo_runtime.py',
    '../_base_/datasets/zoo.py',
    '../_base_/models/shared_tasks.py',
]
