# Body parts: C classes at half of the input's size; the leaf config names arch, vocabulary and patch padding.
model = dict(
    type='HumanEstimator',
    data_preprocessor=dict(type='HumanDataPreprocessor'),
    backbone=dict(type='SapiensViT', arch='1b', img_size=(1024, 768), patch_padding=0),
    heads=dict(
        seg=dict(
            type='PartHead',
            vocabulary='parts28',
            deconv_channels=(768, 768, 768),
            conv_channels=(768, 768, 768),
            loss=dict(type='WeightedCrossEntropy'),
        )
    ),
    test_cfg=dict(flip_test=False),
)
