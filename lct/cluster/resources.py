"""What each kind of job asks for, by class; profiles map a class to partition, account and GPU type."""

from typing import Any

# class -> memory [MB], run time [minutes], nodes and GPUs of each node asked for; sized for the mini scale
_CLASSES: dict[str, dict[str, int]] = {
    "local": {"mem_mb": 1000, "runtime": 10},
    "prepare": {"mem_mb": 2000, "runtime": 240},  # 240 000 images at 256 pixels: an hour of one core at most
    "cpu": {"mem_mb": 2500, "runtime": 60},
    "gpu_small": {"mem_mb": 2500, "runtime": 60},
    "gpu_train": {"mem_mb": 2500, "runtime": 240, "nodes": 1, "gpu": 0, "cpus_per_task": 1},
}


def resource_class(name: str) -> dict[str, Any]:
    """Snakemake resources of a class."""
    return dict(_CLASSES[name])
