# People of the renders that tools/zoo/render.sh makes, for masked autoencoding; in front of photographs without people
# where there are some: train_dataloader.dataset.background=FOLDER.
_base_ = './zoo_renders.py'
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        sample_per='person',
        cache='decoded',
        pipeline=[
            dict(type='PersonBox', padding=1.25),
            dict(type='RandomBox', scale=(0.6, 1.25), rotate=20.0, rotate_prob=0.3),
            dict(type='LoadImage'),
            dict(type='TopdownAffine'),
            dict(type='LoadLabels', kinds=['parts', 'mask']),
            dict(type='RandomTexture', prob=0.5),
            dict(type='RandomBackground', prob=0.5),
            dict(type='RandomFlip'),
            dict(type='PackHumanInputs'),
        ],
    ),
)
