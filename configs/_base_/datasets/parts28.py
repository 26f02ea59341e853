# 28 part classes of made people.
_base_ = './dense.py'
labels = ('parts', 'mask')
train_dataloader = dict(dataset=dict(labels=labels, part_vocabulary='parts28'))
val_dataloader = dict(dataset=dict(labels=labels, part_vocabulary='parts28'))
test_dataloader = val_dataloader
val_evaluator = dict(type='PartIoU', vocabulary='parts28')
test_evaluator = val_evaluator
