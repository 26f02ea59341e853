# 308 keypoints of made people, one sample a person; any manifest folder will do.
_base_ = '../pipelines/topdown.py'
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/train/',
        sample_per='person',
        keypoint_vocabulary='keypoints308',
        input_size=(1024, 768),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HumanManifestDataset',
        data_root='data/synthetic/val/',
        sample_per='person',
        keypoint_vocabulary='keypoints308',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='PCK', vocabulary='keypoints308'),
    dict(type='KeypointAP', vocabulary='keypoints308', points='common'),
]
test_evaluator = val_evaluator
