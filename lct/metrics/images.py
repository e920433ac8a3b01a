"""What happens to images before a network sees them."""

import io

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from lct.metrics.settings import Degradation
from lct.streams import generator


def to_network(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W) uint8, contiguous: torch picks its convolution by the layout in memory, and
    torch-fidelity's own loader gives this one."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as it comes back from a JPEG file of this quality, written by Pillow."""
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def degraded(image: np.ndarray, degradation: Degradation, index: int) -> np.ndarray:
    """An image (H, W, 3) uint8, blurred or with noise added. index: of the image in its set; decides its noise."""
    size = degradation.pixels(image.shape[0])
    if degradation.kind == "blur":
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(size)))
    noise = torch.randn(image.shape, generator=generator(0, "degraded/noise", index)).numpy()
    return np.rint(image + size * noise).clip(0, 255).astype(np.uint8)
