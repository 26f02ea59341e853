# Relative depth at the input's full size.
_base_ = './estimator.py'
model = dict(
    backbone=dict(patch_padding=0),
    heads=dict(
        depth=dict(
            type='DepthHead',
            deconv_channels=(384, 384, 384, 384),
            conv_channels=(384, 384),
            loss=dict(type='SiLogLoss'),
        )
    ),
)
