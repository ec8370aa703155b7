from .backtracking import trace_back as trace_back
from .pixel_fields import PixelField as PixelField
from .pixel_traces import PixelTrace as PixelTrace
from .pixel_traces import table_cells as table_cells
