from .certificate import Certificate as Certificate
from .certificate import Comparison as Comparison
from .certification import certify as certify
from .faults import Verification as Verification
from .folder_check import verify as verify
