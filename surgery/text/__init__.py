"""Text that leaves the process: file names, text for terminals, HTML for notebooks, stages as text.

Any text or value comes in: names of files, of operations, of stages. Text goes out that a file system, a terminal or a
browser can't misread: names without separators, lines without control characters, HTML with its markup escaped.
This room does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
