"""The inputs of a run: which files they are, how they are decoded, and how they become batches of tensors.

Paths, patterns and values come in, with what the model requires (parameters, channels, size, range, preprocessing).
Batches of tensors go out, by parameter of forward, with the names of their images, and with notes on the files.
`load_image` reads a single image.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
