# The offline filters and two probes that tools/curation/fit_probe.py fitted to a made set, for another one: how filters
# of one's own examples go into a config. docs/scale.md has the commands and the results.
_base_ = './humans_offline.py'
probe = dict(_delete_=True, type='Labels', resources=dict(num_cpus=1, num_gpus=0, batch_size=32))

stages = dict(
    persons=dict(gate=None),  # every filter sees every image, so that each has its own precision and recall
    content=dict(**probe, labels=('art',), model=dict(type='Probe', path='data/made/art.npz'), reject=dict(art=0.5)),
    watermark=dict(
        **probe,
        labels=('watermark',),
        model=dict(type='Probe', path='data/made/watermark.npz'),
        reject=dict(watermark=0.5),
    ),
)
