"""The script that is written beside an exported model, and shows how to use it without megavit."""

from collections.abc import Mapping

from megavit.config.exported import IMAGES, ExportInfo

LIBRARY: Mapping[str, str] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
    "aotinductor": "torch._inductor",
}
OPEN: Mapping[str, str] = {
    "onnx": """session = onnxruntime.InferenceSession(here / "model.onnx")
about = json.loads(session.get_modelmeta().custom_metadata_map["megavit"])


def run(pixels):
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"pixels": pixels})))
""",
    "openvino": """model = openvino.Core().read_model(here / "model.xml")
about = json.loads(model.get_rt_info("megavit").astype(str))
# Without the first, processors that have 16-bit numbers compute with them; without the others, memory grows with the
# number of sizes that images have.
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
READ_COLOUR = """def read(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
"""
READ_ARRAY = """def read(path):
    return np.load(path)  # uint8 (height, width, CHANNELS)
"""
SAY: Mapping[str, str] = {
    "classes": """    best = outputs["probabilities"][0].argmax()
    print(f"{path}: {about['labels'][best]} {outputs['probabilities'][0, best]:.1%}{mark}")
""",
    "labels": """    found = zip(about["labels"], outputs["probabilities"][0], about["thresholds"])
    given = [f"{label} {probability:.1%}" for label, probability, least in found if probability >= least]
    print(f"{path}: {', '.join(given) or 'none'}{mark}")
""",
    "score": """    print(f"{path}: {outputs['score'][0]:.6g}{mark}")
""",
}
MARK = """    mark = " (unlike training: this means little)" if outputs["distance"][0] > about["unlike_from"] else ""
"""


def consumer(target: str, info: ExportInfo, names: tuple[str, ...]) -> str | None:
    """Its text; None for a model that has no classifier, or takes images that whoever uses it prepares."""
    if info.input == IMAGES or (not info.labels and info.target != "score"):
        return None
    colour = info.channels == 3
    libraries = [f"import {name}" for name in sorted(("numpy as np", LIBRARY[target]))]
    libraries += ["from PIL import Image, ImageOps"] if colour else []
    standard = ["import json", "import sys", "from pathlib import Path"]
    return "\n".join(
        [
            f'"""What is in images: python predict.py {"IMAGE" if colour else "ARRAY.npy"}..."""',
            "",
            *standard,
            "",
            *libraries,
            "",
            "here = Path(__file__).parent",
            OPEN[target].replace("NAMES", repr(list(names))),
            "",
            READ_COLOUR if colour else READ_ARRAY.replace("CHANNELS", str(info.channels)),
            "",
            "for path in sys.argv[1:]:",
            "    outputs = run(read(path)[None])",
            (MARK if info.unlike_from is not None else '    mark = ""\n') + SAY[info.target],
        ]
    )
