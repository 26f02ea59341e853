# Surface normals at half of the input's size.
_base_ = './estimator.py'
model = dict(
    heads=dict(
        normal=dict(
            type='NormalHead',
            deconv_channels=(768, 768, 768),
            conv_channels=(768, 768, 768),
            loss=dict(type='NormalLoss'),
        )
    ),
)
