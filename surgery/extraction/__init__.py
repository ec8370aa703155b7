"""The whole job: images through a rewritten model, and every activation to the sinks.

A model, images and stages come in; a folder of pictures and its report go out, or activations in memory.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
