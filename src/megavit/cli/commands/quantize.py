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
    allows, nothing is written and the exit code is 1. Use the result with
    megavit predict --precision int8.

    Args:
        out: New folder for the quantized bundle.
    """
    from megavit.api.calibrate import quantize as quantize_bundle
    from megavit.cli.console import notes, print_json, results

    quantization = quantize_bundle(
        bundle,
        name_columns(data, path_column, label_column, image_root),
        out=out,
        max_accuracy_drop=max_accuracy_drop,
        reporter="terminal",
    )
    result, accepted = quantization.result, quantization.folder is not None
    if json:
        print_json(quantization.to_dict())
        return 0 if accepted else 1
    low, high = (f"{end * 100:+.2f}" for end in (result.change.low, result.change.high))
    results.print(
        f"accuracy on {result.images:,} images: {result.float32:.2%} in float32, {result.int8:.2%} in int8, a change "
        f"of {result.change.value * 100:+.2f} points (95%: {low} to {high}); {result.speedup:.1f} times as fast"
    )
    if result.speedup < 1:
        notes.print("int8 is slower than float32 on this CPU: use it only on others", style="yellow")
    if not accepted:
        notes.print(
            f"int8 loses more than {max_accuracy_drop:g} points of accuracy; nothing was written: --max-accuracy-drop "
            "allows more",
            style="yellow",
        )
        return 1
    results.print(f"{out}: use it with --precision int8")
    return 0
