"""Values to pictures: maps, limits, codes, tiles, palettes and PNG files.

`make_activations` takes the values that an operation computed and a `Recipe`, and returns activations. Their pictures,
codes and facts are computed when they are first read, once for all images of a batch. Where the package was installed
with a C compiler, `kernels.c` reads the values and writes the codes; torch computes the same otherwise.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
