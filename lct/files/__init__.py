"""Files: atomic writing, hashing, the two records beside each output, and locks. Knows nothing of the science."""
