"""Networks: the U-Net, its normalisation layers, the consistency parametrisation F -> f, loading of weights."""
