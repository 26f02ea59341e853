# The last stage of sapiens_tiny_persons.py: one picture in seven is made of people of photographs, who have outlines
# (tools/zoo/outlines.py) or were cut out of a video (tools/zoo/cutouts.py).
_base_ = './sapiens_tiny_persons.py'
made = dict(type='HumanManifestDataset', input_size={{_base_.input_size}})
crowds = dict(made, data_root='data/zoo/train/', labels=['parts'], pipeline={{_base_.train_pipeline}})
photographs = [
    dict(
        type='RepeatDataset',
        times=times,
        dataset=dict(made, data_root=root, labels=['mask'], pipeline={{_base_.photo_pipeline}}),
    )
    for times, root in ((160, 'data/zoo/people/'), (10, 'data/zoo/cutouts/'))
]
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[crowds, *photographs]))
custom_hooks = {{_base_.averaged}}
