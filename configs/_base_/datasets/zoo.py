# The renders that tools/zoo/render.sh makes, one sample a person, and their decoded frames. To put people in front of
# photographs without people: train_dataloader.dataset.background=FOLDER (see docs/model_zoo.md).
_base_ = '../pipelines/zoo.py'
vocabulary = ['keypoints308', 'parts28']
people = dict(type='HumanManifestDataset', sample_per='person')
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**people, data_root='data/zoo/train/', cache='decoded', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**people, data_root='data/zoo/val/', test_mode=True, pipeline={{_base_.test_pipeline}}),
)
val_evaluator = [dict(type='PCK'), dict(type='PartIoU'), dict(type='DepthMetric'), dict(type='NormalMetric')]
