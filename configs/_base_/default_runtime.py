# Logging, checkpoints and hooks that every config inherits.
default_scope = 'sapiens'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1000, by_epoch=False, max_keep_ckpts=2, save_best='auto'),
)
custom_hooks = [
    dict(type='NaNGuardHook'),
    dict(type='ThroughputHook'),
    dict(type='StragglerHook'),
    dict(type='BadSampleHook', max_fraction=0.01),
    dict(type='PreemptionHook'),
    dict(type='PredictionVisHook', interval=1000),
    dict(type='MAEVisHook', interval=1000),
    # Average the weights and validate the average: add dict(type='EMAHook', momentum=0.0002).
]
log_processor = dict(by_epoch=False, window_size=50)
visualizer = dict(
    type='HumanVisualizer',
    # Backends whose package is not installed are left out; W&B also needs WANDB_API_KEY or WANDB_MODE.
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend'), dict(type='WandbVisBackend')],
)
# NCCL on GPUs, gloo on CPUs, chosen by what the machine has.
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict())
# bf16 and TF32 on GPUs that have them, fp32 elsewhere; also 'probe', 'bf16', 'fp16', 'tf32', 'fp32'.
precision = 'auto'
randomness = dict(seed=0)
load_from = None
resume = False
