"""Features of a whole image set in one process."""

from lct.metrics import features


def extract_all(networks, images, batch, limit=None):
    """Features of the first `limit` images, by default of all, batch after batch."""
    count = len(images) if limit is None else limit
    spans = [range(start, min(start + batch, count)) for start in range(0, count, batch)]
    return features.concatenate(features.extract(networks, images, span, batch) for span in spans)
