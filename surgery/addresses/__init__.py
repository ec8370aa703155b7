"""Addresses of files beyond this machine, as fsspec has them: ``s3://bucket/photos/a.png``, ``https://...``.

Names come in that a user gives. File systems go out, texts of addresses without their secrets, and what went wrong in
one line. Calls that fail for a moment are made again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
