# Whole images of made people with dense labels; which labels, a child says. Any manifest folder will do.
_base_ = ['./loaders.py', '../pipelines/dense.py']
train_dataloader = dict(
    batch_size=4,
    dataset=dict(type='HumanManifestDataset', data_root='data/synthetic/train/', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/val/',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
