"""See inside a trained model: trace it, select operations, insert extractors, draw what passes.

Every name here is imported when it is first used, so that a plugin or ``surgery --help`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.certificate import Certificate as Certificate
    from surgery.certificate import certify as certify
    from surgery.display import show as show
    from surgery.errors import SurgeryError as SurgeryError
    from surgery.extraction import extract as extract
    from surgery.extractor import ActivationExtractor as ActivationExtractor
    from surgery.folder import OutputFolder as OutputFolder
    from surgery.hookspecs import hookimpl as hookimpl
    from surgery.images import load_image as load_image
    from surgery.insertion import as_outputs as as_outputs
    from surgery.insertion import insert as insert
    from surgery.models import load_model as load_model
    from surgery.names import file_name as file_name
    from surgery.nodes import operations as operations
    from surgery.pictures import draw as draw
    from surgery.recording import record as record
    from surgery.report import Report as Report
    from surgery.selection import Selection as Selection
    from surgery.selection import inside as inside
    from surgery.selection import op as op
    from surgery.selection import path as path
    from surgery.selection import select as select
    from surgery.tracing import trace as trace
    from surgery.types import Activation as Activation
    from surgery.types import Operation as Operation
    from surgery.types import Picture as Picture
    from surgery.verification import Verification as Verification
    from surgery.verification import verify as verify

_HOME = {
    "Activation": "types",
    "ActivationExtractor": "extractor",
    "Certificate": "certificate",
    "Operation": "types",
    "OutputFolder": "folder",
    "Picture": "types",
    "Report": "report",
    "Selection": "selection",
    "SurgeryError": "errors",
    "Verification": "verification",
    "as_outputs": "insertion",
    "certify": "certificate",
    "draw": "pictures",
    "extract": "extraction",
    "file_name": "names",
    "hookimpl": "hookspecs",
    "insert": "insertion",
    "inside": "selection",
    "load_image": "images",
    "load_model": "models",
    "op": "selection",
    "operations": "nodes",
    "path": "selection",
    "record": "recording",
    "select": "selection",
    "show": "display",
    "trace": "tracing",
    "verify": "verification",
}

__all__ = sorted(_HOME)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'surgery' has no attribute {name!r}")
    value = getattr(import_module(f"surgery.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
