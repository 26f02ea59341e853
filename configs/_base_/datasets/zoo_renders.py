# The renders that tools/zoo/render.sh makes, read by the process that trains; what is read of them, a child says.
train_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='HumanManifestDataset', data_root='data/zoo/train/'),
)
