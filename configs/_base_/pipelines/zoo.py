# Small models that learn from renders and must work on photographs: other backgrounds, bad cameras, covered bodies.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomHalfBody', prob=0.15),
    dict(type='RandomBox', scale=(0.7, 1.3), rotate=40.0),
    dict(type='RandomWindow', prob=0.12),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', kinds=['parts', 'mask']),
    dict(type='RandomTexture', prob=0.5),
    dict(type='RandomBackground', prob=0.25),
    # The heads are trained at their own resolution.
    dict(type='LoadLabels', stride=4),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='CoarseDropout', prob=0.2, fill=None),
    dict(type='RandomBlur', prob=0.25, sigma=(0.5, 2.5), motion=11),
    dict(type='RandomCamera'),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', optional=True, frame='original'),
    dict(type='PackHumanInputs'),
]
