# 28 part classes of made people; any manifest folder will do.
_base_ = '../pipelines/parts.py'
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/train/',
        part_vocabulary='parts28',
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
        part_vocabulary='parts28',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PartIoU', vocabulary='parts28')
test_evaluator = val_evaluator
