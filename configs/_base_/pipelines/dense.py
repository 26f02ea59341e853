# Whole images with dense labels. Which labels, sizes and other backgrounds (a folder of human-free photos) the data
# set says: labels, input_size, background. Test labels stay in the original frame, where metrics compare.
scale = (0.75, 2.0)
train_pipeline = [
    dict(type='LoadImage', max_zoom=scale[1]),
    dict(type='LoadLabels'),
    dict(type='RandomAffine', scale=scale, rotate=20.0),
    dict(type='RandomBackground', prob=0.5),
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion'),
    dict(type='RandomBlur', prob=0.1),
    dict(type='PackHumanInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize'),
    dict(type='LoadLabels', frame='original'),
    dict(type='PackHumanInputs'),
]
