"""From a file to a batch: decoding, sampling, transforms, manifests, datasets and loaders."""
