"""Text that leaves the process: file names, what a terminal can print, HTML for notebooks, stages in words.

Strings and values come in; safe text goes out. It knows nothing of models.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
