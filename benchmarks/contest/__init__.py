"""Ours against a baseline that works as the authors' scripts do; benchmarks/speed.py runs it."""
