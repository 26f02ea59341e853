# Whole images with dense labels. Which labels and sizes the data set says: labels, input_size. Other backgrounds are
# human-free photos in data/backgrounds/, or in the data set's background. Test labels stay in the original frame, where
# metrics compare. The mask comes first, for zooming at people; the other labels after the warp, which costs less.
scale = (0.75, 2.0)
train_pipeline = [
    dict(type='LoadImage', max_zoom=scale[1]),
    dict(type='LoadLabels', kinds=['mask'], optional=True),
    dict(type='RandomAffine', scale=scale, rotate=20.0),
    dict(type='LoadLabels'),
    dict(type='RandomBackground', prob=0.5, folder='data/backgrounds', optional=True),
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
