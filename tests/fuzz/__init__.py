"""Odd and damaged inputs for everything that takes input: each case ends in a result, or in an error of one line.

``python -m tests.fuzz --seconds 60`` runs all kinds; ``--kind NAME --seed S --case N`` runs one case again.
"""
