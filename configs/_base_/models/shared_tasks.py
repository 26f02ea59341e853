# Four tasks for small encoders: convolutional stem, one upsampling neck, heads at stride 4.
input_size = (256, 192)
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='tiny', stem='conv', out_stem=True),
    neck=dict(type='UpsamplingNeck', channels=(128, 128)),
    heads=dict(
        pose=dict(
            type='PoseHead',
            codec=dict(type='UDPHeatmap', sigma=2.0),
            deconv_channels=(),
            conv_channels=(),
            # Heatmap errors are about a thousand times smaller than the other losses.
            loss=dict(type='KeypointMSELoss', loss_weight=1000.0),
            accuracy_interval=20,
            group_weights=dict(body=5.0, foot=3.0, extra=3.0, face=0.4),
        ),
        seg=dict(
            type='PartHead',
            deconv_channels=(),
            conv_channels=(),
            dropout=0.0,
            person_first=True,
            least_region=0.2,
            with_person=True,
            # Who is a person matters most to those who look.
            loss=dict(loss_weight=2.0),
        ),
        depth=dict(type='DepthHead', deconv_channels=(), conv_channels=(), dropout=0.0),
        normal=dict(type='NormalHead', deconv_channels=(), conv_channels=(), dropout=0.0),
    ),
    test_cfg=dict(
        flip_test=False,
        # Small models know people of photographs better at a size where less is to be seen.
        scales=(0.75,),
        # But of a face they see too little, unless it is enlarged.
        closer_look=dict(around=['nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear'], also=['face']),
    ),
)
