# Whole images of made people with dense labels; which labels, a child says. Any manifest folder will do.
_base_ = '../pipelines/dense.py'
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/train/',
        input_size=(1024, 768),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/val/',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
