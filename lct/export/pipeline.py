"""Sampling of a run's weights as a diffusers pipeline. `lct export` writes it with what it imports."""

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from lct.data.autoencoder import to_uint8
from lct.sampling.generate import image_noise
from lct.sampling.samplers import sample
from lct.sampling.settings import ConsistencySampler, OdeSampler
from lct.schedules import NoiseGrid


class LatentConsistencyPipeline(DiffusionPipeline):
    """Generates images of one run. Image `index` of a draw is the same in every call.

    vae: stock AutoencoderKL. generator: the network with its parametrisation. settings: sampler, grid, batches."""

    def __init__(self, vae, generator, settings: dict | None = None):
        super().__init__()
        self.register_modules(vae=vae, generator=generator)
        self.register_to_config(settings=settings)

    @torch.inference_mode()
    def __call__(self, num_images: int = 1, draw: int = 0, first: int = 0, output_type: str = "pil"):
        """Images first .. first + num_images - 1 of a draw: PIL images, or with output_type="np" (n, H, W, 3) uint8."""
        settings = self.config.settings
        kinds = {"consistency": ConsistencySampler, "ode": OdeSampler}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["sampler"].items()}
        sampler, grid = kinds[values["kind"]](**values), NoiseGrid(**settings["grid"])
        batch, shape, device = settings["batch"], tuple(settings["shape"]), self._execution_device
        selected, pixels = range(first, first + num_images), []
        for start in range(first // batch * batch, first + num_images, batch):  # whole batches: the same bytes always
            indices = range(start, start + batch)
            latents = sample(
                self.generator, sampler, grid, lambda k, i=indices: image_noise(draw, k, i, shape).to(device)
            )
            latents = self.generator.denormalise(latents)
            for at in range(0, batch, settings["decode_batch"]):
                part = latents[at : at + settings["decode_batch"]]
                missing = settings["decode_batch"] - len(part)
                filled = torch.cat([part, part[-1:].expand(missing, *shape)]) if missing else part
                decoded = to_uint8(self.vae.decode(filled).sample[: len(part)], settings["rounding"])
                pixels += [image for i, image in enumerate(decoded, start=start + at) if i in selected]
        images = np.stack(pixels) if output_type == "np" else [PIL.Image.fromarray(image) for image in pixels]
        return ImagePipelineOutput(images=images)
