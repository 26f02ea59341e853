# Pose: K heatmaps at a quarter of the input's size.
_base_ = './estimator.py'
model = dict(
    heads=dict(
        pose=dict(
            type='PoseHead',
            codec=dict(type='UDPHeatmap'),
            deconv_channels=(768, 768),
            conv_channels=(768, 768),
            loss=dict(type='KeypointMSELoss'),
        )
    ),
    test_cfg=dict(flip_test=True),
)
