# Pretraining on the two photos of the demo.
_base_ = '../../../configs/pretrain/sapiens_tiny_mae.py'
input_size = (128, 128)
photos = dict(data_root='demo/images/', input_size=input_size)
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=photos)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=photos)
test_dataloader = val_dataloader
model = dict(backbone=dict(img_size=input_size))
iterations = 100
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=30),
]
default_hooks = dict(checkpoint=dict(interval=iterations), logger=dict(interval=20))
