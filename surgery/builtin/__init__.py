"""The stages and models that come with the project, offered through the same hooks as those of plugins.

`hooks` offers normalizers, tilers, colormaps, transforms, edits, measures, sinks, readers, models and readers of
weights files, under the names that `surgery plugins` lists. The names of this face are those that other rooms and
Python code use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
