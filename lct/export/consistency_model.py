"""The network of a latent consistency model, and f(x, sigma). `lct export` writes it with what it imports."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet, consistency


class ConsistencyModel(ModelMixin, ConfigMixin):
    """f(x, sigma) of normalised latents x (B, C, H, W), and the way from these to the decoder's latents."""

    @register_to_config
    def __init__(self, network: dict, scaling: dict, latent_shape: list, mean: list, std: list, sigma_data: float):
        super().__init__()
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in network.items()}
        self.net = UNet(Network(**settings), latent_shape[0], latent_shape[1]).to_empty(device="cpu")
        self.parametrisation = Scaling(**scaling)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return consistency(self.net, x, sigma, self.parametrisation)

    def denormalise(self, x: Tensor) -> Tensor:
        """Normalised latents -> those of the decoder; in float64, as in training."""
        mean, std = (torch.tensor(self.config[key], dtype=torch.float64, device=x.device) for key in ("mean", "std"))
        return (x.to(torch.float64) * std / self.config["sigma_data"] + mean).to(x.dtype)
