# Images alone. LoadImage must not decode less of a large JPEG than the smallest and narrowest window needs.
area, aspect = (0.2, 1.0), (3 / 4, 4 / 3)
train_pipeline = [
    dict(type='LoadImage', max_zoom=(area[0] * aspect[0]) ** -0.5),
    dict(type='RandomResizedCrop', area=area, aspect=aspect),
    dict(type='RandomFlip'),
    dict(type='PackHumanInputs'),
]
test_pipeline = [dict(type='LoadImage'), dict(type='Resize', interpolation='area'), dict(type='PackHumanInputs')]
