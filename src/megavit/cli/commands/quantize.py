"""The command `megavit quantize`."""

from pathlib import Path

from megavit.cli.options import (
    Bundle,
    ImageRoot,
    Json,
    LabelColumn,
    LabeledData,
    MaxAccuracyDrop,
    PathColumn,
    name_columns,
)


def quantize(
    bundle: Bundle,
    data: LabeledData,
    /,
    *,
    out: Path,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    max_accuracy_drop: MaxAccuracyDrop = 0.5,
    json: Json = False,
) -> int:
    """Quantize a bundle to int8 for CPUs, if the loss of accuracy is small.

    Accuracy in int8 and float32 is compared on those images of DATA that the
    model was not trained on. If more accuracy is lost than --max-accuracy-drop
    allows, or int8 finds other images unlike the training images, nothing is
    written and the exit code is 1. Speed is compared with float32 and bfloat16
    on this machine, and int8 advised only where it is faster: megavit predict
    --precision int8.

    Args:
        out: New folder for the quantized bundle.
    """
    from megavit.api.calibrate import quantize as quantize_bundle
    from megavit.cli.console import notes, print_json, results
    from megavit.cli.render.quantization import describe_accuracy, describe_refusal, describe_speed, describe_use

    quantization = quantize_bundle(
        bundle,
        name_columns(data, path_column, label_column, image_root),
        out=out,
        max_accuracy_drop=max_accuracy_drop,
        reporter="terminal",
    )
    accepted = quantization.folder is not None
    if json:
        print_json(quantization.to_dict())
        return 0 if accepted else 1
    results.print(describe_accuracy(quantization.result))
    for speed in quantization.speeds:
        results.print(describe_speed(speed), style=None if speed.is_faster else "yellow")
    if not accepted:
        notes.print(describe_refusal(quantization.result, max_accuracy_drop), style="yellow")
        return 1
    results.print(describe_use(out, quantization.speeds))
    return 0
