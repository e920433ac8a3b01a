"""Sampling: weights to latents to images; every image has its own seed."""
