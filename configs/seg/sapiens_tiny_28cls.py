# 28 part classes, tiny encoder, 256 x 192 (H x W).
_base_ = ['../_base_/tasks/28cls.py', '../_base_/tiny.py']
input_size = (256, 192)
model = dict(backbone=_base_.tiny.backbone, heads=dict(seg=_base_.tiny.dense_head))
train_dataloader = val_dataloader = _base_.tiny.dataloader
optim_wrapper = _base_.tiny.optim_wrapper
