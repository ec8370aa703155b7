"""The folder of a run: file names, locks, the journal, the manifest, recovery after a run that was killed.

Sinks write whole files into an `OutputFolder`; a `Report` and a manifest that describes every file go out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
