# Four heads on one backbone: all tasks in one pass.
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', img_size=(1024, 768), patch_padding=2),
    heads=dict(
        # Heatmap errors are about a thousand times smaller than the other losses.
        pose=dict(
            type='PoseHead',
            vocabulary='keypoints308',
            codec=dict(type='UDPHeatmap'),
            loss=dict(type='KeypointMSELoss', loss_weight=1000.0),
        ),
        seg=dict(type='PartHead', vocabulary='parts28'),
        depth=dict(type='DepthHead'),
        normal=dict(type='NormalHead'),
    ),
    test_cfg=dict(flip_test=False),
)
