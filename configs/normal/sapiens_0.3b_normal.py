# Surface normals, 0.3B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/normal.py',
    '../_base_/models/normal.py',
]
model = dict(
    backbone=dict(arch='0.3b'),
)
train_dataloader = dict(batch_size=16)
