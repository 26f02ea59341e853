# Depth of made people.
_base_ = './dense.py'
labels = ('depth', 'mask')
train_dataloader = dict(dataset=dict(labels=labels))
val_dataloader = dict(dataset=dict(labels=labels))
test_dataloader = val_dataloader
val_evaluator = dict(type='DepthMetric')
test_evaluator = val_evaluator
