from .background_writer import BackgroundWriter as BackgroundWriter
from .recording import record as record
from .run import extract as extract
from .tensor_pictures import draw as draw
