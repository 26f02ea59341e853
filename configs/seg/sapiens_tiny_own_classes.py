# Own classes from the model that ships: its encoder and neck, and a new head, 128 x 96 (H x W). See
# docs/train_your_own.md; how much of the encoder trains: model.backbone.tune.
_base_ = './sapiens_tiny_28cls.py'
input_size = (128, 96)
load_from = 'tiny'
load_skip = ['heads.seg.']
model = dict(
    backbone=dict(arch='tiny', stem='conv', out_stem=True, patch_padding=0),
    neck=dict(type='UpsamplingNeck', channels=(128, 128)),
    heads=dict(seg=dict(deconv_channels=(), conv_channels=())),
)
train_cfg = dict(max_iters=300, val_interval=50)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30),
]
