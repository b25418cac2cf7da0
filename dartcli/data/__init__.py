"""From a source to batches: fetch, prepare, split, sample negatives, store."""
