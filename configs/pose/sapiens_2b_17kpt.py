# 17 COCO keypoints, 2B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/coco17.py',
    '../_base_/models/pose.py',
]
model = dict(
    backbone=dict(arch='2b', with_cp=True),
    heads=dict(pose=dict(vocabulary='coco17')),
)
train_dataloader = dict(batch_size=2)
