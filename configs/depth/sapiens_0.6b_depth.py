# Relative depth, 0.6B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/depth.py',
    '../_base_/models/depth.py',
]
model = dict(
    backbone=dict(arch='0.6b'),
)
train_dataloader = dict(batch_size=8)
