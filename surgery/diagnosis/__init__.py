"""What is behind a result: the positions of the image and of each operation that a pixel of the output depends on.

A model, an image and a pixel come in; a table and pictures of the fields go out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
