# Masked-autoencoder pretraining on any folder of images, 1B encoder, 1024 x 1024.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/pretrain.py',
    '../_base_/datasets/mae.py',
    '../_base_/models/mae.py',
]
model = dict(
    backbone=dict(arch='1b', with_cp=True),
)
train_dataloader = dict(batch_size=16)
