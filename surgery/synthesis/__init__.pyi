from .maximization import maximize as maximize
from .results import Maximized as Maximized
