from .symbolic import trace as trace
from .symbolic import unwrap_model as unwrap_model
