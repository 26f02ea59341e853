# Made people; any manifest folder will do. What is read of it, a child says.
_base_ = './loaders.py'
train_dataloader = dict(dataset=dict(type='HumanManifestDataset', data_root='data/synthetic/train/'))
val_dataloader = dict(dataset=dict(type='HumanManifestDataset', data_root='data/synthetic/val/', test_mode=True))
