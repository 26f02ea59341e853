# Masked-autoencoder pretraining: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/pretrain.py', '../datasets/mae.py', '../models/mae.py']
