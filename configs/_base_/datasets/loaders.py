# How samples are loaded; `test_dataloader` and `test_evaluator` are those of validation unless a config has its own.
train_dataloader = dict(num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False))
