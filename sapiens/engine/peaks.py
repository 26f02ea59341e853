# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What devices can compute at best, for the share of it that a model uses."""

from __future__ import annotations

import torch

# Dense TFLOPS in bf16 (fp16 where there is no bf16) with float32 sums, by a part of the name that CUDA reports; the
# first that fits counts. From the makers' data sheets; the figures for sparse matrices there are twice as large.
PEAKS = {
    'B200': 2250.0,
    'H200 NVL': 835.0,
    'H200': 989.0,
    'H100 PCIe': 756.0,
    'H100 NVL': 835.0,
    'H100': 989.0,
    'H800': 989.0,
    'H20': 148.0,
    'A100': 312.0,
    'A800': 312.0,
    'L40S': 362.0,
    'L40': 181.0,
    'L4': 121.0,
    'A40': 149.7,
    'A30': 165.0,
    'A10': 125.0,
    'RTX 4090': 165.2,
    'RTX 3090': 71.0,
    'V100': 125.0,
    'T4': 65.0,
    'MI300X': 1307.0,
    'MI250X': 383.0,
}


def peak_flops(device_name: str, dtype: torch.dtype = torch.bfloat16) -> float | None:
    """Dense operations a second of a GPU; None where it is not known.

    Args:
        device_name: As ``torch.cuda.get_device_name`` says.
        dtype: bf16 and fp16 are as fast as each other; float32 is taken as TF32, half as fast on those that have it.
    """
    peak = next((tera for name, tera in PEAKS.items() if name in device_name), None)
    if peak is None or (dtype == torch.float32 and any(name in device_name for name in ('V100', 'T4', 'MI'))):
        return None
    return peak * 1e12 / (2 if dtype == torch.float32 else 1)
