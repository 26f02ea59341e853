# Small models from random weights: a schedule over minutes, since machines differ (default_hooks.budget.minutes).
_base_ = ['./default_runtime.py', './schedules/pretrain.py']
train_cfg = dict(max_iters=10**7, val_interval=10**7)
# bf16 where the processor is faster with it: tools/train.py --amp.
optim_wrapper = dict(optimizer=dict(lr=2e-3, betas=(0.9, 0.98), fused=True))
param_scheduler = None
default_hooks = dict(
    budget=dict(type='TimeBudgetHook', minutes=60),
    checkpoint=dict(interval=500, max_keep_ckpts=1, save_best=None),
)
custom_hooks = hooks = [
    dict(type='NaNGuardHook', patience=3),
    dict(type='ThroughputHook'),
    dict(type='BadSampleHook', max_fraction=0.01),
    dict(type='PreemptionHook'),
]
# For the last stage, long after random weights: ``custom_hooks = {{_base_.averaged}}``.
averaged = [*hooks, dict(type='EMAHook', momentum=0.002)]
