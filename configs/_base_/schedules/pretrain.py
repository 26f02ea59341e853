# Pretraining: AdamW, short warm-up, cosine decay. The paper's batches are 20,480 to 98,304 images; scale lr with yours.
_base_ = './finetune.py'
train_cfg = dict(max_iters=400000, val_interval=10000)
optim_wrapper = dict(
    # Rate 1: no layer-wise decay, only the rules for weight decay.
    paramwise_cfg=dict(layer_decay_rate=1.0),
    optimizer=dict(lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
)
# A schedule without `end` ends where training does.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=2000),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=2000),
]
