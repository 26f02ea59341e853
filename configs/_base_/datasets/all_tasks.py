# Made people with all labels, one sample a person; any manifest folder will do.
_base_ = ['./loaders.py', '../pipelines/all_tasks.py']
vocabulary = ['keypoints308', 'parts28']
people = dict(type='HumanManifestDataset', sample_per='person')
train_dataloader = dict(
    batch_size=4,
    dataset=dict(**people, data_root='data/synthetic/train/', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=4,
    dataset=dict(**people, data_root='data/synthetic/val/', test_mode=True, pipeline={{_base_.test_pipeline}}),
)
val_evaluator = [dict(type='PCK'), dict(type='PartIoU'), dict(type='DepthMetric'), dict(type='NormalMetric')]
