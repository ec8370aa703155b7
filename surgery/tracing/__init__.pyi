from .symbolic import trace as trace
from .symbolic import unwrap as unwrap
