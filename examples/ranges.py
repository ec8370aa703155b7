import csv
from contextlib import contextmanager

import surgery


@contextmanager
def ranges(folder):
    """Write `<image>/ranges.csv`: the range of each activation."""
    rows = {}

    def write(activation):  # its values: one image's, (C, H, W) or any other shape and dtype; copy what you keep
        # One file each: folder.file(f"{folder.place(activation.image)}/{surgery.file_name(activation.path)}.txt")
        facts = activation.facts
        rows.setdefault(activation.image, []).append((activation.path, facts.min, facts.max))

    def finished(image):
        if image in rows:
            name = f"{folder.place(image)}/ranges.csv"
            with folder.file(name) as path, path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("operation", "min", "max"), *rows.pop(image)])

    folder.when_finished(finished)
    folder.when_dropped(lambda image: rows.pop(image, None))
    yield write


@surgery.hookimpl
def surgery_sinks():
    return {"ranges": ranges}
