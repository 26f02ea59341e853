# Whole photographs of nobody to many people, composed from the renders that tools/zoo/render.sh makes and photographs
# without people: train_dataloader.dataset.background=FOLDER (see docs/model_zoo.md).
_base_ = './zoo_renders.py'
after = [
    dict(type='RandomFlip'),
    dict(type='PhotometricDistortion', brightness=24, contrast=(0.7, 1.3)),
    dict(type='RandomBlur', prob=0.15, sigma=(0.5, 1.5), motion=7),
    dict(type='RandomCamera', low_resolution_prob=0.15, low_resolution=(1.2, 2.5)),
    dict(type='PackHumanInputs'),
]
train_pipeline = [dict(type='ComposeCrowd'), *after]
# Of people of photographs, who are few: half of the pictures are what was photographed.
photo_pipeline = [dict(type='ComposeCrowd', whole_prob=0.5, cut_prob=0.5), *after]
train_dataloader = dict(batch_size=16, dataset=dict(labels=['parts'], pipeline=train_pipeline))
