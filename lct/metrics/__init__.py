"""Images -> features -> Frechet distance, precision and recall; knows nothing of models or runs."""
