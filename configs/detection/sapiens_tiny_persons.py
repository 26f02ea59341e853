# Where people are in a whole photograph, 384 x 384 (H x W): the detector that ships, 3 M parameters, see
# docs/model_zoo.md.
_base_ = ['../_base_/zoo_runtime.py', '../_base_/datasets/zoo_crowds.py']
input_size = (384, 384)
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(
        type='SapiensViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=input_size,
        stem='conv',
        out_stem=True,
    ),
    neck=dict(type='UpsamplingNeck', channels=(64, 64)),
    heads=dict(person=dict(type='PersonHead', conv_channels=())),
)
train_dataloader = dict(dataset=dict(input_size=input_size))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
val_cfg = None
test_cfg = None
