from .alignment import find_again as find_again
from .compare_runs import compare as compare
from .run_comparison import ComparedOperation as ComparedOperation
from .run_comparison import RunComparison as RunComparison
from .run_comparison import format_relative as format_relative
from .run_comparison import format_snr as format_snr
from .run_names import name_runs as name_runs
from .runs import Run as Run
