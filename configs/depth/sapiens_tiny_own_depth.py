# Own depth from the model that ships: its encoder and neck and its head, 128 x 96 (H x W). See
# docs/train_your_own.md; how much of the encoder trains: model.backbone.tune.
_base_ = ['./sapiens_tiny_depth.py', '../_base_/own.py']
input_size = (128, 96)
load_from = 'tiny'
model = dict(_base_.own.model, heads=dict(depth=_base_.own.head))
optim_wrapper = _base_.own.optim_wrapper
train_cfg = _base_.own.train_cfg
param_scheduler = _base_.own.param_scheduler
