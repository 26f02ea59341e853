# Masked-autoencoder pretraining on any folder of images, tiny encoder, 256 x 256.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/pretrain.py',
    '../_base_/datasets/mae.py',
    '../_base_/models/mae.py',
]
input_size = (256, 256)
model = dict(
    backbone=dict(arch='tiny', img_size=input_size),
    neck=dict(embed_dims=128, num_layers=2, num_heads=4),
)
train_dataloader = dict(batch_size=16, dataset=dict(input_size=input_size))
val_dataloader = dict(batch_size=16, dataset=dict(input_size=input_size))
test_dataloader = dict(batch_size=16, dataset=dict(input_size=input_size))
