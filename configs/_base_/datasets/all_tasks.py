# Made people with all labels, one sample a person.
_base_ = ['./people.py', '../pipelines/all_tasks.py']
vocabulary = ['keypoints308', 'parts28']
train_dataloader = dict(batch_size=4, dataset=dict(sample_per='person', pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=4, dataset=dict(sample_per='person', pipeline={{_base_.test_pipeline}}))
val_evaluator = [dict(type='PCK'), dict(type='PartIoU'), dict(type='DepthMetric'), dict(type='NormalMetric')]
