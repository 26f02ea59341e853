# One person's crop with every label that the data have; sizes come from the data set's input_size.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomBox', scale=(0.75, 1.25), rotate=30.0),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', optional=True),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', optional=True, frame='original'),
    dict(type='PackHumanInputs'),
]
