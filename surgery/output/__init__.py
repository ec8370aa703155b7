"""The folder of a run: its files, its locks, its manifest, and recovery after a run that was killed.

Sinks write files into an `OutputFolder`. What was written is recorded in a `Manifest`, image by image, so that a killed
run can be recovered. At the end, a `Report` and `manifest.json` go out, which `ManifestReader` reads.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
