# What `make demo` trains in about two minutes on two CPU cores: all four tasks, 128 x 96 (H x W).
_base_ = './sapiens_tiny_4tasks.py'
input_size = (128, 96)
model = dict(
    # Maps at a quarter of the input's size: cheap enough for a CPU.
    heads=dict(
        pose=dict(deconv_channels=(64, 48), conv_channels=(48,)),
        seg=dict(deconv_channels=(64, 48), conv_channels=(48,), loss=dict(class_weight=None)),
        depth=dict(deconv_channels=(64, 48), conv_channels=(48,)),
        normal=dict(deconv_channels=(64, 48), conv_channels=(48,)),
    ),
)
train_dataloader = dict(num_workers=1, dataset=dict(data_root='data/quickstart/train/'))
val_dataloader = dict(num_workers=1, dataset=dict(data_root='data/quickstart/val/'))
iterations = 500
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20),
]
default_hooks = dict(checkpoint=dict(interval=100, max_keep_ckpts=1, save_best=None), logger=dict(interval=20))
