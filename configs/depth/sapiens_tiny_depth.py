# Relative depth, tiny encoder, 256 x 192 (H x W).
_base_ = ['../_base_/tasks/depth.py', '../_base_/tiny.py']
input_size = (256, 192)
model = dict(
    backbone=_base_.tiny.backbone, heads=dict(depth=dict(deconv_channels=(96, 96, 48, 48), conv_channels=(48, 48)))
)
train_dataloader = val_dataloader = _base_.tiny.dataloader
optim_wrapper = _base_.tiny.optim_wrapper
