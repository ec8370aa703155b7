from .example_observation import observe as observe
from .extraction_observer import CallListener as CallListener
from .extraction_observer import listening_to_calls as listening_to_calls
from .observed_model import ObservedModel as ObservedModel
from .parameter_guard import guard_parameters as guard_parameters
