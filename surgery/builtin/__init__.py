"""What comes with the project, offered through the same hooks as the plugins of others.

Normalizers, tilers, colormaps, transforms, sinks, readers and models, by the names that `surgery plugins` lists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
