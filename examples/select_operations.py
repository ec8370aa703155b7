"""Operations are chosen by path, kind and module, and combined."""

import surgery
from surgery import inside, op, path
from surgery.data import inputs

model = surgery.load_model("facades").eval()
image = surgery.load_image(inputs()[1], size=256)
traced = surgery.trace(model, image)

chosen = surgery.select(traced, path("down*") & op("conv2d") | inside("up2") & ~op("*norm*"))
print(f"{len(chosen)} operations: {', '.join(operation.path for operation in chosen)}")

opened = surgery.insert(traced, chosen)
surgery.show(opened)
surgery.record(opened, image)[0].pictures[0].image().save("select_operations.png")
