# A tiny pose and part model on made images; 12 iterations take a second or two.
_base_ = ['../../configs/_base_/default_runtime.py', '../../configs/_base_/schedules/finetune.py']
custom_imports = dict(imports=['toy_data'])
model = dict(
    type='HumanEstimator',
    backbone=dict(
        type='SapiensViT',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=(64, 48),
        drop_path_rate=0.1,
    ),
    heads=dict(
        pose=dict(
            type='PoseHead',
            vocabulary='coco17',
            codec=dict(type='UDPHeatmap', sigma=2),
            deconv_channels=(16, 16),
            conv_channels=(16,),
            loss=dict(type='KeypointMSELoss', loss_weight=100),
        ),
        seg=dict(
            type='PartHead',
            vocabulary='parts20',
            deconv_channels=(16,),
            conv_channels=(16,),
            loss=dict(type='WeightedCrossEntropy'),
        ),
        normal=dict(type='NormalHead', deconv_channels=(16,), conv_channels=(16,), loss=dict(type='NormalLoss')),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type='ToyHumans', size=22),
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=4,
    dataset=dict(type='ToyHumans', size=6, augment=False),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
train_cfg = dict(max_iters=12, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-1, by_epoch=False, begin=0, end=3),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=3),
]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
log_processor = dict(window_size=1)
