from .job import extract as extract
from .pipeline import Behind as Behind
from .recording import record as record
from .tensor_pictures import draw as draw
