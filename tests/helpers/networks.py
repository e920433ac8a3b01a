"""Small networks in the shape of published ones."""

import torch
import torch.nn.functional as F

from lct.data.settings import TrainedAutoencoder

SD_VAE = TrainedAutoencoder(  # the shape of stabilityai/sd-vae-ft-ema
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    latent_channels=4,
    norm_groups=32,
    middle_attention=True,
)


class Script(torch.nn.Module):
    """Called as StyleGAN2-ADA's networks are: uint8 images, its own resize, class probabilities unless asked not."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 5, stride=3)
        self.head = torch.nn.Linear(12, 3)

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = F.interpolate(img.to(torch.float32) / 255 - 0.5, size=[20, 20], mode="area")
        x = torch.relu(self.conv(x)).mean([2, 3])
        return x if return_features else self.head(x).softmax(1)
