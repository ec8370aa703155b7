from .front_ends import trace as trace
from .front_ends import unwrap_model as unwrap_model
from .traced_models import is_traced as is_traced
