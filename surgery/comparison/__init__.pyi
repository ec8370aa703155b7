from .ablation import ablate as ablate
from .ablation_study import Ablation as Ablation
from .ablation_study import AblationStudy as AblationStudy
