# A first training of all four tasks in about two minutes on two CPU cores: 128 x 96 (H x W), simple made figures.
_base_ = './sapiens_tiny_4tasks_128x96.py'
train_dataloader = dict(num_workers=1, batch_size=8, dataset=dict(data_root='data/quickstart/train/'))
val_dataloader = dict(num_workers=1, dataset=dict(data_root='data/quickstart/val/'))
iterations = 500
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(budget=dict(final=0.0), checkpoint=dict(interval=100, max_keep_ckpts=1), logger=dict(interval=20))
