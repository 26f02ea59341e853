# 28 part classes of made people.
_base_ = './dense.py'
vocabulary = 'parts28'
labels = ('parts', 'mask')
train_dataloader = dict(dataset=dict(labels=labels))
val_dataloader = dict(dataset=dict(labels=labels))
val_evaluator = dict(type='PartIoU')
