# Body parts: C classes at half of the input's size.
_base_ = './estimator.py'
model = dict(
    heads=dict(
        seg=dict(
            type='PartHead',
            deconv_channels=(768, 768, 768),
            conv_channels=(768, 768, 768),
            loss=dict(type='WeightedCrossEntropy'),
        )
    ),
)
