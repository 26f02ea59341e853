# Made people with all labels, one sample a person; any manifest folder will do.
_base_ = '../pipelines/all_tasks.py'
keypoints, parts = 'keypoints308', 'parts28'
people = dict(
    type='HumanManifestDataset',
    sample_per='person',
    keypoint_vocabulary=keypoints,
    part_vocabulary=parts,
    input_size=(1024, 768),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**people, data_root='data/synthetic/train/', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**people, data_root='data/synthetic/val/', test_mode=True, pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='PCK', vocabulary=keypoints),
    dict(type='PartIoU', vocabulary=parts),
    dict(type='DepthMetric'),
    dict(type='NormalMetric'),
]
test_evaluator = val_evaluator
