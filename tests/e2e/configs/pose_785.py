# One real photo with its whole-body labels, learnt by heart.
_base_ = '../../../configs/pose/sapiens_tiny_133kpt.py'
input_size = (192, 144)
photo = dict(
    ann_file='tests/data/coco_785_wholebody.json',
    data_root='',
    data_prefix=dict(_delete_=True, img='demo/images/'),
    input_size=input_size,
)
# A little augmentation: the photo is the whole data set.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomBox', scale=(0.9, 1.1), rotate=10.0),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='PhotometricDistortion'),
    dict(type='PackHumanInputs'),
]
train_dataloader = dict(
    batch_size=3, num_workers=0, persistent_workers=False, dataset=dict(**photo, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False, dataset=photo)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='PCK', vocabulary='wholebody133', thresholds=(0.05,))
test_evaluator = val_evaluator
model = dict(
    backbone=dict(
        img_size=input_size,
        arch=dict(_delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
    ),
    test_cfg=dict(flip_test=False),  # one photo, never seen mirrored
)
iterations = 200
train_cfg = dict(max_iters=iterations, val_interval=iterations)
# Nothing to preserve in an encoder that starts from random weights: all layers learn alike.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20),
]
default_hooks = dict(checkpoint=dict(interval=iterations), logger=dict(interval=20))
