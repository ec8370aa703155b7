"""What is behind a result: where in a model something goes wrong, and which positions a pixel depends on.

In come a model and images; out goes a diagnosis: a row for each operation and measure, and a finding for each number
past its threshold at the operation where it begins, with plots over depth and a sheet of the worst channels. With a
pixel of the output, a table and pictures of the positions of the image and of each operation that it depends on.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
