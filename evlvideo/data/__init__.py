"""From annotated video files to batches: annotations, sampling, decoding, transforms, datasets, collation."""
