"""Odd and damaged inputs for everything that takes input. A case is right if it ends in a result or a one-line error.

``python -m tests.fuzz --seconds 60`` runs all kinds; ``--kind NAME --seed S --case N`` runs one case again.
"""
