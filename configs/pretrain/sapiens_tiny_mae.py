# Masked-autoencoder pretraining on any folder of images, tiny encoder, 256 x 256.
_base_ = '../_base_/tasks/mae.py'
input_size = (256, 256)
model = dict(backbone=dict(arch='tiny'), neck=dict(embed_dims=128, num_layers=2, num_heads=4))
