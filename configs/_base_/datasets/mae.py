# Any folder of images: data/pretrain/. A list of files: ann_file='list.txt'. Tar shards: type='ShardImageDataset',
# shards='{000000..000127}.tar'. Validation watches the loss on the first 256 images (unreadable ones are
# skipped as in training); give it a folder of its own if you can.
_base_ = '../pipelines/mae.py'
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageFolderDataset',
        data_root='data/pretrain/',
        input_size=(1024, 1024),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageFolderDataset',
        data_root='data/pretrain/',
        indices=256,
        input_size=(1024, 1024),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='MAELoss')
test_evaluator = val_evaluator
