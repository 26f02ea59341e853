# Relative depth at the input's full size.
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', img_size=(1024, 768), patch_padding=0),
    heads=dict(
        depth=dict(
            type='DepthHead',
            deconv_channels=(384, 384, 384, 384),
            conv_channels=(384, 384),
            loss=dict(type='SiLogLoss'),
        )
    ),
    test_cfg=dict(flip_test=False),
)
