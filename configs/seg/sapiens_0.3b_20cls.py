# 20 part classes (LIP), 0.3B encoder, 1024 x 768 (H x W).
_base_ = '../_base_/tasks/20cls.py'
load_from = 'facebook/sapiens-pretrain-0.3b'
model = dict(backbone=dict(arch='0.3b'))
train_dataloader = dict(batch_size=16)
