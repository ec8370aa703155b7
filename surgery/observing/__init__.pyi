from .example_observation import observe as observe
