from .ablation import ablate as ablate
from .ablation_study import Ablation as Ablation
from .ablation_study import AblationStudy as AblationStudy
from .patch_study import Patch as Patch
from .patch_study import PatchStudy as PatchStudy
from .patching import patch as patch
