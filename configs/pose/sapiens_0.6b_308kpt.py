# 308 keypoints, 0.6B encoder, 1024 x 768 (H x W).
_base_ = '../_base_/tasks/308kpt.py'
load_from = 'facebook/sapiens-pretrain-0.6b'
model = dict(backbone=dict(arch='0.6b'))
train_dataloader = dict(batch_size=8)
