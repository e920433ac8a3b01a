"""Weights of a network as named tensors, loaded strictly: all of them, no others, of the right shape and finite."""

import torch
from torch import Tensor, nn


def load(network: nn.Module, tensors: dict[str, Tensor], where: str) -> nn.Module:
    """Give `network` (which may be without values yet, on the meta device) the weights `tensors`, and return it.

    where: the file they come from, for the message. Raises ValueError with one line when names, shapes or values do
    not fit. The network takes the tensors themselves, with their device and dtype; the caller must not reuse them.
    """
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise ValueError(
            f"{where}: expected the {len(expected)} tensors of the network, found {len(missing)} missing"
            f"{_first(missing)} and {len(extra)} unknown{_first(extra)}; use the settings it was trained with"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{where}: {name}: expected shape {tuple(expected[name].shape)}, found {tuple(tensor.shape)};"
                " use the settings it was trained with"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{where}: {name}: expected finite weights, found NaN or infinity; train again")
    network.load_state_dict(tensors, strict=True, assign=True)
    return network


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
