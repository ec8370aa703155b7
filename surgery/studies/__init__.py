"""Studies of a model: what follows from an edit, and what another input would have changed.

In come a model, images, a selection and an edit; out go studies: a row for each edited operation or channel, with how
far the output is from the original one, and folders with sheets and tables.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
