"""Sampling of a run's weights as a diffusers pipeline. `lct export` writes it with what it imports."""

import dataclasses

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

from lct.data.autoencoder import to_uint8
from lct.sampling.samplers import image_noise, sample
from lct.sampling.settings import ConsistencySampler, OdeSampler
from lct.schedules import NoiseGrid


class LatentConsistencyPipeline(DiffusionPipeline):
    """Generates images of one run.

    vae: stock AutoencoderKL. generator: the network with its parametrisation. settings: sampler, grid, batches."""

    def __init__(self, vae, generator, settings: dict | None = None):
        super().__init__()
        self.register_modules(vae=vae, generator=generator)
        self.register_to_config(settings=settings)

    @torch.inference_mode()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        draw: int = 0,
        first: int = 0,
        exact: bool = False,
    ):
        """`batch_size` images: PIL images, or with output_type="np" (batch_size, H, W, 3) uint8.

        generator: source of the noise, one or one an image. Without it, the images are numbers first, first + 1, ... of
        the sampling seed `draw`: the same in every call, up to the rounding of other batch sizes. exact: compute the
        whole batches of the run, so that they are also equal to its images, bit for bit.
        num_inference_steps: network evaluations in place of the run's sampler: 1, 2 or more re-noising levels, evenly
        spaced on the grid (Heun's method evaluates twice a step). ValueError for a number that the sampler cannot take.
        """
        settings = self.config.settings
        sampler, grid = with_steps(_sampler(settings["sampler"]), num_inference_steps), NoiseGrid(**settings["grid"])
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, found {batch_size}")
        if exact and generator is not None:
            raise ValueError("exact: expected draw and first, found a generator too; give one of the two")
        shape, device, dtype = settings["shape"], self._execution_device, self.generator.dtype
        selected, batch, images = range(first, first + batch_size), settings["batch"], []
        if generator is not None:  # one batch, as other pipelines of diffusers draw it
            drawn = (batch_size, *shape)
            latents = sample(self.generator, sampler, grid, lambda _: randn_tensor(drawn, generator, device, dtype))
            images += self._decode(latents, exact)
        else:
            start = first // batch * batch if exact else first
            for at in range(start, first + batch_size, batch):
                numbers = range(at, at + batch if exact else min(at + batch, selected.stop))
                latents = sample(
                    self.generator, sampler, grid, lambda k, i=numbers: image_noise(draw, k, i, shape).to(device, dtype)
                )
                decoded = self._decode(latents, exact)
                images += [image for i, image in zip(numbers, decoded, strict=True) if i in selected]
        images = np.stack(images) if output_type == "np" else [PIL.Image.fromarray(image) for image in images]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _decode(self, latents: torch.Tensor, exact: bool) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 of normalised latents; exact: the last batch of the decoder filled, as in the run."""
        settings, images = self.config.settings, []
        latents = self.generator.denormalise(latents)
        for part in latents.split(settings["decode_batch"]):
            missing = settings["decode_batch"] - len(part) if exact else 0
            filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            decoded = self.vae.decode(filled.to(self.vae.dtype)).sample[: len(part)]
            images += list(to_uint8(decoded, settings["rounding"]))
        return images


def _sampler(values: dict) -> ConsistencySampler | OdeSampler:
    kinds = {"consistency": ConsistencySampler, "ode": OdeSampler}
    return kinds[values["kind"]](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def with_steps(sampler: ConsistencySampler | OdeSampler, steps: int | None) -> ConsistencySampler | OdeSampler:
    """The sampler with another number of steps; its own levels where the number is its own."""
    if steps is None or steps == (sampler.steps if isinstance(sampler, OdeSampler) else sampler.nfe):
        return sampler
    if isinstance(sampler, OdeSampler):
        return dataclasses.replace(sampler, steps=steps)
    most = sampler.grid_points - 1
    if not 1 <= steps <= most:
        raise ValueError(f"num_inference_steps: expected 1 to {most}, found {steps}")
    indices = tuple(round(k * most / steps) for k in range(1, steps))
    return dataclasses.replace(sampler, middle_indices=indices, middle_sigmas=())
