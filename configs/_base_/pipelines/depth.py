# Whole images with depth. Sizes come from the data set's input_size, other backgrounds from its background
# (a folder of human-free photos); test labels stay in the original frame, where metrics compare.
kinds = ('depth', 'mask')
train_pipeline = [
    dict(type='LoadImage', max_zoom=2.0),
    dict(type='LoadLabels', kinds=kinds),
    dict(type='RandomAffine', scale=(0.75, 2.0), rotate=20.0),
    dict(type='RandomBackground', prob=0.5),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='RandomBlur', prob=0.1),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize'),
    dict(type='LoadLabels', kinds=kinds, frame='original'),
    dict(type='PackHumanInputs'),
]
