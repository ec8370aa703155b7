import surgery


@surgery.hookimpl
def surgery_colormaps():
    return {"ember": ["black", "darkred", "orange", "white"]}
