"""The inputs of a run: which files they are, how they are decoded, resized and put into the model's range, in batches.

Paths come in; batches of tensors with the names of their images go out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
