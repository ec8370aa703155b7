"""The page of finished runs: what a browser needs to walk through them, offline, from files.

In go the folders of runs with their manifests (`RunFolder`). Out come the files of the page, one by one (`PageFile`):
``index.html``, the application in `app/`, the data of the runs, and for each picture a script that holds its PNG file,
since a page that is opened from a file may load scripts and nothing else. Nothing is drawn. The room `output` writes
the files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
