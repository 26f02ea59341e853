# Surface normals, 1B encoder, 1024 x 768 (H x W).
_base_ = '../_base_/tasks/normal.py'
load_from = 'facebook/sapiens-pretrain-1b'
model = dict(backbone=dict(arch='1b', with_cp=True))
train_dataloader = dict(batch_size=4)
