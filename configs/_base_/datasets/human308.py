# 308 keypoints of made people, one sample a person.
_base_ = ['./people.py', '../pipelines/topdown.py']
vocabulary = 'keypoints308'
train_dataloader = dict(batch_size=8, dataset=dict(sample_per='person', pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=8, dataset=dict(sample_per='person', pipeline={{_base_.test_pipeline}}))
# The paper's 114 points; points='all' scores all 308.
val_evaluator = [dict(type='PCK'), dict(type='KeypointAP', points='common')]
