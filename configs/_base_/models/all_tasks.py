# Four heads on one backbone: all tasks in one pass.
_base_ = './estimator.py'
model = dict(
    heads=dict(
        # Heatmap errors are about a thousand times smaller than the other losses.
        pose=dict(
            type='PoseHead',
            codec=dict(type='UDPHeatmap'),
            loss=dict(type='KeypointMSELoss', loss_weight=1000.0),
        ),
        seg=dict(type='PartHead'),
        depth=dict(type='DepthHead'),
        normal=dict(type='NormalHead'),
    ),
)
