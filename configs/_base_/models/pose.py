# Pose: K heatmaps at a quarter of the input's size; the leaf config names arch and vocabulary.
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', img_size=(1024, 768), patch_padding=2),
    heads=dict(
        pose=dict(
            type='PoseHead',
            vocabulary='coco17',
            codec=dict(type='UDPHeatmap'),
            deconv_channels=(768, 768),
            conv_channels=(768, 768),
            loss=dict(type='KeypointMSELoss'),
        )
    ),
    test_cfg=dict(flip_test=True),
)
