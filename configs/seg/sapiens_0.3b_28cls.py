# 28 part classes, 0.3B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/parts28.py',
    '../_base_/models/seg.py',
]
model = dict(
    backbone=dict(arch='0.3b', patch_padding=0),
    heads=dict(seg=dict(vocabulary='parts28')),
)
train_dataloader = dict(batch_size=16)
