# Masked-autoencoder pretraining of the small models that ship (tools/zoo/pretrain.sh), 128 x 96 (H x W).
_base_ = ['../_base_/zoo_runtime.py', '../_base_/datasets/zoo_mae.py', '../_base_/models/mae.py']
input_size = (128, 96)
model = dict(backbone=dict(arch='tiny', stem='conv'), neck=dict(embed_dims=128, num_layers=2, num_heads=4))
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95)))
val_cfg = None
test_cfg = None
