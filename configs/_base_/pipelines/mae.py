# Images alone. A window may be a fifth of the image: then LoadImage must not decode less than 1 / sqrt(0.2) allows.
train_pipeline = [
    dict(type='LoadImage', max_zoom=2.3),
    dict(type='RandomResizedCrop', area=(0.2, 1.0)),
    dict(type='RandomFlip'),
    dict(type='PackHumanInputs'),
]
test_pipeline = [dict(type='LoadImage'), dict(type='Resize', interpolation='area'), dict(type='PackHumanInputs')]
