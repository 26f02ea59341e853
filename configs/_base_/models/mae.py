# Masked autoencoder: 75 % of the patches removed, a decoder of 8 blocks 512 wide, normalised pixels.
input_size = (1024, 1024)
model = dict(
    type='MAEPretrainer',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', patch_padding=0),
    neck=dict(type='MAEDecoder', embed_dims=512, num_layers=8, num_heads=16),
    mask_ratio=0.75,
)
