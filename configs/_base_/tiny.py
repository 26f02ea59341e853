# What configs of the tiny encoder share; a leaf config says where it goes.
tiny = dict(
    backbone=dict(arch='tiny'),
    dense_head=dict(deconv_channels=(96, 96, 96), conv_channels=(96, 96, 96)),
    pose_head=dict(deconv_channels=(96, 96), conv_channels=(96, 96)),
    dataloader=dict(batch_size=8),
    # The encoder starts from random weights, so all layers learn alike.
    optim_wrapper=dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0)),
)
