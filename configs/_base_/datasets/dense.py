# Whole images of made people with dense labels; which labels, a child says.
_base_ = ['./people.py', '../pipelines/dense.py']
train_dataloader = dict(batch_size=4, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=4, dataset=dict(pipeline={{_base_.test_pipeline}}))
