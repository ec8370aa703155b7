import surgery


def ember(path, state):  # a pathlib.Path, and name -> tensor of any shape and dtype
    """Build a convolution that was saved as ember.weight and ember.bias."""
    if set(state) != {"ember.weight", "ember.bias"}:
        return None
    from torch import nn

    outputs, inputs, *size = state["ember.weight"].shape
    network = nn.Sequential()
    network.add_module("ember", nn.Conv2d(inputs, outputs, size, padding="same"))
    network.load_state_dict(state)
    return network


@surgery.hookimpl
def surgery_checkpoints():
    return {"ember": ember}
