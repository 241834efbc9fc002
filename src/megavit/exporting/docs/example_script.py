"""Create the example script of an exported model, which predicts without megavit.

It repeats `megavit.predict.postprocess.predictions`; tests/page/test_predictions_parity.py compares the two.
"""

from collections.abc import Mapping

from megavit.config.export_info import IMAGES, ExportInfo

LIBRARIES: Mapping[str, str] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
    "aotinductor": "torch._inductor",
}
OPEN_MODEL: Mapping[str, str] = {
    "onnx": """session = onnxruntime.InferenceSession(here / "model.onnx")
about = json.loads(session.get_modelmeta().custom_metadata_map["megavit"])


def run(pixels):
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"pixels": pixels})))
""",
    "openvino": """model = openvino.Core().read_model(here / "model.xml")
about = json.loads(model.get_rt_info("megavit").astype(str))
# Without f32, OpenVINO computes in 16 bits on CPUs that can. Without limits, its caches grow with every image size.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"
settings = {"INFERENCE_PRECISION_HINT": "f32", "CPU_RUNTIME_CACHE_CAPACITY": "64"}
compiled = openvino.Core().compile_model(model, "CPU", settings)


def run(pixels):
    return {output.any_name: values for output, values in compiled(pixels).items()}
""",
    "torch": """extra = {"megavit": ""}
program = torch.export.load(here / "model.pt2", extra_files=extra).module()
about = json.loads(extra["megavit"])


def run(pixels):
    return dict(zip(NAMES, (values.numpy() for values in program(torch.tensor(pixels)))))
""",
    "aotinductor": """program = torch._inductor.aoti_load_package(str(here / "model.pt2"))
about = json.loads(program.get_metadata()["megavit"])


def run(pixels):
    return dict(zip(NAMES, (values.numpy() for values in program(torch.tensor(pixels)))))
""",
}
READ_COLOR = """def read(path):
    with Image.open(path) as image:
        image.load()
        tags, clear, kind = getattr(image, "tag_v2", {}), image.info.get("transparency"), image.format
        image = ImageOps.exif_transpose(image)
    if image.mode != "F" and not image.mode.startswith("I"):
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
        return np.asarray(canvas)
    # 16-bit gray, or floats from 0 to 1.
    if image.mode == "I" and kind not in ("PNG", "PPM"):
        raise ValueError("32-bit integers have no known scale")
    values, top = np.asarray(image), 1 if image.mode == "F" else 4095 if tags.get(258) == (12,) else 65535
    if not ((values >= 0) & (values <= top)).all():
        raise ValueError(f"pixels must be between 0 and {top}")
    gray = np.rint(values * 255) if top == 1 else (values.astype(np.int64) * 255 + top // 2) // top
    if tags.get(262) == 0:  # of a TIFF whose 0 is white
        gray = 255 - gray
    if clear is not None:
        gray = np.where(values == clear, 255, gray)
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
"""
READ_ARRAY = """def read(path):
    pixels = np.load(path, allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != CHANNELS:
        raise ValueError("expected uint8 (height, width, CHANNELS)")
    return pixels
"""
CHECK_FILES = """# Check that the files are complete and undamaged.
for name, digest in json.loads((here / "megavit-export.json").read_text())["files"].items():
    if hashlib.sha256((here / name).read_bytes()).hexdigest() != digest:
        sys.exit(f"{name} is damaged: copy the folder again")
"""
LOOP = """failed = 0
for path in sys.argv[1:]:
    try:
        outputs = run(read(path)[None])
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise ValueError("the output is not a finite number")
    except Exception as error:  # Pillow raises anything for a damaged file
        print(f"{path}: cannot be read: {error}")
        failed += 1
        continue"""
PRINT_PREDICTION: Mapping[str, str] = {
    "classification": """    best = outputs["probabilities"][0].argmax()
    print(f"{path}: {about['labels'][best]} {outputs['probabilities'][0, best]:.1%}{mark}")
""",
    "multilabel": """    rows = zip(about["labels"], outputs["probabilities"][0].astype(float), about["thresholds"])
    assigned = [f"{label} {probability:.1%}" for label, probability, threshold in rows if probability >= threshold]
    print(f"{path}: {', '.join(assigned) or 'none'}{mark}")
""",
    "regression": """    print(f"{path}: {outputs['score'][0]:.6g}{mark}")
""",
}
PRINT_MARK = """    unlike = outputs["distance"][0] > about["ood_threshold"]
    mark = " (unlike the training images: not reliable)" if unlike else ""
"""


def render_example_script(target: str, info: ExportInfo, names: tuple[str, ...]) -> str | None:
    """Return the script, or None for a page, a model without a classifier, or already prepared input images."""
    if target not in LIBRARIES or info.input == IMAGES or (not info.labels and info.target != "regression"):
        return None
    color = info.channels == 3
    libraries = [f"import {name}" for name in sorted(("numpy as np", LIBRARIES[target]))]
    libraries += ["from PIL import Image, ImageOps"] if color else []
    standard = ["import hashlib", "import json", "import os", "import sys", "from pathlib import Path"]
    if target != "openvino":
        standard.remove("import os")
    return "\n".join(
        [
            f'"""Predict images: python predict.py {"IMAGE" if color else "ARRAY.npy"}..."""',
            "",
            *standard,
            "",
            *libraries,
            "",
            "here = Path(__file__).parent",
            CHECK_FILES,
            OPEN_MODEL[target].replace("NAMES", repr(list(names))),
            "",
            READ_COLOR if color else READ_ARRAY.replace("CHANNELS", str(info.channels)),
            "",
            LOOP,
            (PRINT_MARK if info.ood_threshold is not None else '    mark = ""\n') + PRINT_PREDICTION[info.target],
            "sys.exit(2 if failed else 0)",
            "",
        ]
    )
