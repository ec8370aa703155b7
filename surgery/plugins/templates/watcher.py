import surgery


@surgery.hookimpl
def surgery_run_started(run):
    print(f"ember: operations: {len(run.operations)}, images: {len(run.images)}")


@surgery.hookimpl
def surgery_activation(activation):  # its values: one image's, (C, H, W) or any other shape and dtype, live
    if activation.facts.nan:
        print(f"ember: NaN in {activation.path} of {activation.image}")


@surgery.hookimpl
def surgery_run_finished(report):
    print(f"ember: images: {report.images}, seconds: {report.seconds:.1f}")
