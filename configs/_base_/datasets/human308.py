# 308 keypoints of made people, one sample a person; any manifest folder will do.
_base_ = ['./loaders.py', '../pipelines/topdown.py']
vocabulary = 'keypoints308'
people = dict(type='HumanManifestDataset', sample_per='person')
train_dataloader = dict(
    batch_size=8,
    dataset=dict(**people, data_root='data/synthetic/train/', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(**people, data_root='data/synthetic/val/', test_mode=True, pipeline={{_base_.test_pipeline}}),
)
# The paper's 114 points; points='all' scores all 308.
val_evaluator = [dict(type='PCK'), dict(type='KeypointAP', points='common')]
