# Pretraining: AdamW, short warm-up, cosine decay. The paper's batches are 20,480 to 98,304 images; scale lr with yours.
train_cfg = dict(by_epoch=False, max_iters=400000, val_interval=10000)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    # Rate 1: no layer-wise decay, only the rules for weight decay.
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
# A schedule without `end` ends where training does.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=2000),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=2000),
]
