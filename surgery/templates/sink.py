import csv
from contextlib import contextmanager

import surgery


@contextmanager
def ember(folder):
    """`<image>/ember.csv`: the range of each activation of an image."""
    rows = {}

    def write(activation):
        facts = activation.facts
        rows.setdefault(activation.image, []).append((activation.path, facts.min, facts.max))

    def finished(image):
        found = rows.pop(image, [])
        if image is not None:  # None stands for what belongs to a whole batch
            with folder.file(f"{image}/ember.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("operation", "min", "max"), *found])

    folder.when_finished(finished)
    folder.when_dropped(lambda image: rows.pop(image, None))
    yield write


@surgery.hookimpl
def surgery_sinks():
    return {"ember": ember}
