# 20 part classes (LIP), 1B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/parts20.py',
    '../_base_/models/seg.py',
]
model = dict(
    backbone=dict(arch='1b', patch_padding=2, with_cp=True),
    heads=dict(seg=dict(vocabulary='parts20')),
)
train_dataloader = dict(batch_size=4)
