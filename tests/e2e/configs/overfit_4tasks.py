# Four made people, learnt by heart by four heads on one small encoder.
_base_ = '../../../configs/_base_/tasks/4tasks.py'
input_size = (96, 64)
# No augmentation; labels in the crop's frame for the losses, in the photo's for the metrics.
crop = [dict(type='PersonBox', padding=1.25), dict(type='LoadImage'), dict(type='TopdownAffine')]
train_pipeline = [*crop, dict(type='LoadLabels'), dict(type='PackHumanInputs')]
test_pipeline = [*crop, dict(type='LoadLabels', frame='original'), dict(type='PackHumanInputs')]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**loader, batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(**loader, batch_size=4, dataset=dict(pipeline=test_pipeline))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
    ),
    heads=dict(
        pose=dict(deconv_channels=(48, 48), conv_channels=(48, 48)),
        seg=dict(deconv_channels=(48, 48, 48), conv_channels=(48, 48), dropout=0.0, loss=dict(class_weight=None)),
        depth=dict(deconv_channels=(48, 48, 32), conv_channels=(32,), dropout=0.0),
        normal=dict(deconv_channels=(48, 48, 48), conv_channels=(48, 48), dropout=0.0),
    ),
)
iterations = 320
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    optimizer=dict(lr=4e-3, weight_decay=0.0), paramwise_cfg=dict(layer_decay_rate=1.0), clip_grad=dict(max_norm=20.0)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20),
]
default_hooks = dict(checkpoint=dict(interval=iterations), logger=dict(interval=10))
