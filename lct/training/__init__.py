"""Training: the loop, its resume state, EMAs; the only room that draws times, noise and pairs."""
