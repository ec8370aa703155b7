"""From values to pictures: quantization to bytes, tiling, palettes, labels, PNG files.

Tensors and a `Recipe` come in; indexed pictures and their limits go out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
