"""The command line: arguments, tables, trees and progress bars. No other room uses rich or typer.

Names and text come in; values go to the rooms that do the work, and what they return is printed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
