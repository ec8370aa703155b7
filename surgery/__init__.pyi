__all__: list[str]  # noqa: PYI035 - lazy_loader makes it
__version__: str

from .cli import show as show
from .editing import edit as edit
from .errors import SurgeryError as SurgeryError
from .extraction import Output as Output
from .extraction import draw as draw
from .extraction import extract as extract
from .extraction import grad_cam as grad_cam
from .extraction import record as record
from .graph import operations as operations
from .inputs import load_image as load_image
from .models import load_model as load_model
from .output import OutputFolder as OutputFolder
from .output import Report as Report
from .plugins import hookimpl as hookimpl
from .rewriting import ActivationExtractor as ActivationExtractor
from .rewriting import Selection as Selection
from .rewriting import as_outputs as as_outputs
from .rewriting import cut as cut
from .rewriting import insert as insert
from .rewriting import inside as inside
from .rewriting import op as op
from .rewriting import path as path
from .rewriting import remove_edits as remove_edits
from .rewriting import replace as replace
from .rewriting import select as select
from .text import file_name as file_name
from .tracing import trace as trace
from .types import Activation as Activation
from .types import Operation as Operation
from .types import Picture as Picture
from .verification import Certificate as Certificate
from .verification import Verification as Verification
from .verification import certify as certify
from .verification import verify as verify
