# The renders that tools/zoo/render.sh makes, and their decoded frames. To put people in front of photographs without
# people: train_dataloader.dataset.background=FOLDER (see docs/model_zoo.md).
_base_ = './all_tasks.py'
# Small models that learn from renders and must work on photographs: other backgrounds, bad cameras, covered bodies.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomHalfBody', prob=0.1),
    # Moderate: models that see few samples learn upright people first.
    dict(type='RandomBox', scale=(0.75, 1.25), rotate=20.0, rotate_prob=0.4),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', kinds=['parts', 'mask']),
    dict(type='RandomTexture', prob=0.6),
    dict(type='RandomBackground', prob=0.2),
    dict(type='RandomDecoy', prob=0.3),
    # The heads are trained at their own resolution.
    dict(type='LoadLabels', stride=4),
    dict(type='RandomOccluder', prob=0.35),
    dict(type='RandomFlip'),
    dict(type='RandomConvolution', prob=0.2),
    dict(type='RandomLight', prob=0.3),
    dict(type='PhotometricDistortion'),
    dict(type='CoarseDropout', prob=0.1, fill=None),
    dict(type='RandomBlur', prob=0.15, sigma=(0.5, 2.0), motion=9),
    dict(type='RandomCamera', low_resolution_prob=0.15, noise_prob=0.1, jpeg_prob=0.15),
    dict(type='PackHumanInputs'),
]
loader = dict(batch_size=32, num_workers=0, persistent_workers=False)
train_dataloader = dict(**loader, dataset=dict(data_root='data/zoo/train/', cache='decoded', pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(data_root='data/zoo/val/'))
