from .blending import Blend as Blend
from .blending import edit_values as edit_values
