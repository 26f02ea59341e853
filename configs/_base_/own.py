# What all configs for own data (sapiens_tiny_own_*.py) take from the model that ships, 128 x 96 (H x W): its encoder,
# its neck, heads without layers of their own, and a short schedule. Each adds its task.
own = dict(
    model=dict(
        backbone=dict(arch='tiny', stem='conv', out_stem=True, patch_padding=0),
        neck=dict(type='UpsamplingNeck', channels=(128, 128)),
    ),
    head=dict(deconv_channels=(), conv_channels=()),
    # Unlike that of other tiny configs, this encoder has learnt something: its early layers move less.
    optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.75)),
    train_cfg=dict(max_iters=300, val_interval=50),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
        dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30),
    ],
)
