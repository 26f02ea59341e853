# Masked-autoencoder pretraining of the small models that ship (tools/zoo/pretrain.sh): people of the renders, 128 x 96
# (H x W), in front of photographs without people where there are some: train_dataloader.dataset.background=FOLDER.
_base_ = ['../_base_/zoo_runtime.py', '../_base_/models/mae.py']
input_size = (128, 96)
model = dict(backbone=dict(arch='tiny', stem='conv'), neck=dict(embed_dims=128, num_layers=2, num_heads=4))
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/zoo/train/',
        sample_per='person',
        cache='decoded',
        pipeline=[
            dict(type='PersonBox', padding=1.25),
            dict(type='RandomBox', scale=(0.6, 1.25), rotate=20.0, rotate_prob=0.3),
            dict(type='LoadImage'),
            dict(type='TopdownAffine'),
            dict(type='LoadLabels', kinds=['parts', 'mask']),
            dict(type='RandomTexture', prob=0.5),
            dict(type='RandomBackground', prob=0.5),
            dict(type='RandomFlip'),
            dict(type='PackHumanInputs'),
        ],
    ),
)
custom_hooks = [
    dict(type='NaNGuardHook', patience=3),
    dict(type='ThroughputHook'),
    dict(type='BadSampleHook', max_fraction=0.01),
    dict(type='PreemptionHook'),
    dict(type='MAEVisHook', interval=1000),
]
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95)))
val_cfg = None
test_cfg = None
