# Surface normals at half of the input's size.
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', img_size=(1024, 768), patch_padding=2),
    heads=dict(
        normal=dict(
            type='NormalHead',
            deconv_channels=(768, 768, 768),
            conv_channels=(768, 768, 768),
            loss=dict(type='NormalLoss'),
        )
    ),
    test_cfg=dict(flip_test=False),
)
