"""Training: the loop, its resume state, EMAs; the only package that draws times, noise and pairs."""
