# Relative depth, tiny encoder, 256 x 192 (H x W).
_base_ = '../_base_/tasks/depth.py'
input_size = (256, 192)
model = dict(
    backbone=dict(arch='tiny'),
    heads=dict(depth=dict(deconv_channels=(96, 96, 48, 48), conv_channels=(48, 48))),
)
train_dataloader = dict(batch_size=8)
val_dataloader = dict(batch_size=8)
# The tiny encoder starts from random weights, so all layers learn alike.
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
