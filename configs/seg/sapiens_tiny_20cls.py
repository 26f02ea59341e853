# 20 part classes (LIP), tiny encoder, 256 x 192 (H x W).
_base_ = '../_base_/tasks/20cls.py'
input_size = (256, 192)
model = dict(
    backbone=dict(arch='tiny'),
    heads=dict(seg=dict(deconv_channels=(96, 96, 96), conv_channels=(96, 96, 96))),
)
train_dataloader = dict(batch_size=8)
val_dataloader = dict(batch_size=8)
# The tiny encoder starts from random weights, so all layers learn alike.
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
