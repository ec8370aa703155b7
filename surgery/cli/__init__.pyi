from .app import main as main
from .graph_view import show as show
