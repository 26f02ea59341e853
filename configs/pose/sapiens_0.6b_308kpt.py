# 308 keypoints, 0.6B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/human308.py',
    '../_base_/models/pose.py',
]
model = dict(
    backbone=dict(arch='0.6b'),
    heads=dict(pose=dict(vocabulary='keypoints308')),
)
train_dataloader = dict(batch_size=8)
