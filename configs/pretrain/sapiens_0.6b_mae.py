# Masked-autoencoder pretraining on any folder of images, 0.6B encoder, 1024 x 1024.
_base_ = '../_base_/tasks/mae.py'
model = dict(backbone=dict(arch='0.6b'))
train_dataloader = dict(batch_size=32)
