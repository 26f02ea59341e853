# Masked-autoencoder pretraining on any folder of images, 0.6B encoder, 1024 x 1024.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/pretrain.py',
    '../_base_/datasets/mae.py',
    '../_base_/models/mae.py',
]
model = dict(
    backbone=dict(arch='0.6b'),
)
train_dataloader = dict(batch_size=32)
