"""Images and latents: sources, the image-set format, the autoencoder and the latent statistics."""
