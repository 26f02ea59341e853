# Depth of made people.
_base_ = './dense.py'
labels = ('depth', 'mask')
train_dataloader = dict(dataset=dict(labels=labels))
val_dataloader = dict(dataset=dict(labels=labels))
val_evaluator = dict(type='DepthMetric')
