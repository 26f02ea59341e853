# One person's box -> the network's input. The box is augmented before the image is read, so that a large JPEG is
# decoded no larger than the crop needs. Sizes come from the data set's input_size.
train_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='RandomHalfBody', prob=0.3),
    dict(type='RandomBox', scale=(0.5, 1.5), rotate=80.0),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='RandomBlur', prob=0.1),
    dict(type='CoarseDropout', prob=0.1),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='PersonBox', padding=1.25),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='PackHumanInputs'),
]
