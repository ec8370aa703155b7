from .alignment import Alignment as Alignment
from .alignment import align as align
from .alignment import find_again as find_again
from .compare import compare as compare
from .run_comparison import ComparedOperation as ComparedOperation
from .run_comparison import RunComparison as RunComparison
from .runs import Run as Run
