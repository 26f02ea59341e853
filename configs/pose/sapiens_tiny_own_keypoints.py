# Own keypoints from the model that ships: its encoder and neck, and a new head, 128 x 96 (H x W). See
# docs/train_your_own.md; how much of the encoder trains: model.backbone.tune.
_base_ = ['./sapiens_tiny_17kpt.py', '../_base_/own.py']
input_size = (128, 96)
load_from = 'tiny'
load_skip = ['heads.pose.']
model = dict(
    _base_.own.model,
    heads=dict(pose=dict(_base_.own.head, codec=dict(sigma=1.5), loss=dict(loss_weight=1000.0))),
)
optim_wrapper = _base_.own.optim_wrapper
train_cfg = _base_.own.train_cfg
param_scheduler = _base_.own.param_scheduler
