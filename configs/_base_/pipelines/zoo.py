# Small models that learn from renders and must work on photographs: other backgrounds, bad cameras, covered bodies.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomHalfBody', prob=0.1),
    # Moderate: models that see few samples learn upright people first.
    dict(type='RandomBox', scale=(0.75, 1.25), rotate=20.0, rotate_prob=0.4),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', kinds=['parts', 'mask']),
    dict(type='RandomTexture', prob=0.5),
    dict(type='RandomBackground', prob=0.25),
    # The heads are trained at their own resolution.
    dict(type='LoadLabels', stride=4),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='CoarseDropout', prob=0.1, fill=None),
    dict(type='RandomBlur', prob=0.15, sigma=(0.5, 2.0), motion=9),
    dict(type='RandomCamera', low_resolution_prob=0.15, noise_prob=0.1, jpeg_prob=0.15),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', optional=True, frame='original'),
    dict(type='PackHumanInputs'),
]
