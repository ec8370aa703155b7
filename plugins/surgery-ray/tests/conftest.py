"""Which tests are collected: those of the engine import `surgery_ray`, which the ordinary suite does without."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("surgery_ray") else ["test_ray.py"]
