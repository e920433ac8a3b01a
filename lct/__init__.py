"""Reproduction of "Improved Training Technique for Latent Consistency Models" (arXiv:2502.01441)."""
