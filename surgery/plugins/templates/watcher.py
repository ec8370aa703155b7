import surgery


@surgery.hookimpl
def surgery_run_started(run):
    print(f"ember: {len(run.operations)} operations on {len(run.images)} images")


@surgery.hookimpl
def surgery_activation(activation):  # its values: one image's, (C, H, W) or any other shape and dtype, live
    if activation.facts.nan:
        print(f"ember: NaN in {activation.path} of {activation.image}")


@surgery.hookimpl
def surgery_run_finished(report):
    print(f"ember: {report.images} images in {report.seconds:.1f} s")
