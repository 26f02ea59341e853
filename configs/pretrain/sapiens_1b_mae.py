# Masked-autoencoder pretraining on any folder of images, 1B encoder, 1024 x 1024.
_base_ = '../_base_/tasks/mae.py'
model = dict(backbone=dict(arch='1b', with_cp=True))
train_dataloader = dict(batch_size=16)
