# An encoder, to which a task adds its head; leaf configs name the arch.
input_size = (1024, 768)  # H, W of the network's input: of model, data and keypoints
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', patch_padding=2),
    test_cfg=dict(flip_test=False),
)
