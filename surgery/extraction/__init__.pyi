from .background_writer import BackgroundWriter as BackgroundWriter
from .class_activation import grad_cam as grad_cam
from .model_preparation import copy_for_run as copy_for_run
from .output_parts import Output as Output
from .recording import record as record
from .run import extract as extract
from .tensor_pictures import draw as draw
