"""Losses: distances, weights, the consistency, diffusion and denoising terms, and transport pairing."""
