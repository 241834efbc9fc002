"""The folder that answers in the browser, beside onnxruntime in Python with our own reader of pictures."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, expect

from megavit.data.decode.tensor import decode
from megavit.data.image_dataset import convert_channels
from megavit.errors import ConfigError
from megavit.page import static_folder, write_site
from megavit.predict.postprocess.predictions import cumulative_mass_above
from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import serve_fake
from tests.helpers.onnx_model import LABELS, UNLIKE_FROM, make_metadata, make_onnx_model
from tests.helpers.page_images import choose_files, encode_image, make_noise, make_payload

ASK = """
async ([content, options]) => {
  const { predict } = await import("/page/backend.js");
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  return predict("garden", new File([bytes], "picture"), options);
}
"""


class Twin:
    """The same model in a page and in Python."""

    def __init__(self, page: Page, target: str, channels: int) -> None:
        self.page, self.target, self.channels = page, target, channels
        self.session = onnxruntime.InferenceSession(make_onnx_model(target, channels))

    def in_browser(self, picture: bytes, **options: Any) -> dict[str, Any]:
        return self.page.evaluate(ASK, [base64.b64encode(picture).decode(), {"top": 5, "coverage": None} | options])

    def in_python(self, picture: bytes) -> dict[str, np.ndarray]:
        pixels = convert_channels(decode(picture), self.channels).permute(1, 2, 0)[None].contiguous().numpy()
        names = [output.name for output in self.session.get_outputs()]
        outputs = self.session.run(names, {"pixels": pixels})
        return {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}


@pytest.fixture
def make_twin(tmp_path: Path, runtime: Path, open_page: OpenPage, request: pytest.FixtureRequest) -> Any:
    """Makes a site of a target and a number of channels, opens it, and waits until it can be asked."""

    def made(target: str = "classification", channels: int = 3, **changes: Any) -> Twin:
        site = tmp_path / f"{target}-{channels}"
        write_site(site, make_onnx_model(target, channels), make_metadata(target, channels, **changes), runtime)
        context = serve_fake(None, site)
        address = context.__enter__()
        request.addfinalizer(lambda: context.__exit__(None, None, None))
        page = open_page(address)
        expect(page.get_by_role("button", name="Choose images")).to_be_visible()
        return Twin(page, target, channels)

    return made


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def pictures() -> dict[str, tuple[bytes, float]]:
    """Files of every kind, and how far the answers about them may be apart: 0 where decoding is exact."""
    color, gray, clear = make_noise(seed=1), make_noise(seed=2, channels=1), make_noise(seed=3, channels=4)
    info = PngImagePlugin.PngInfo()
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    tall = make_noise(24, 200, seed=4).rotate(90, expand=True)
    palette = clear.convert("RGB").quantize(16)
    palette.info["transparency"] = 3
    one_clear = encode_image(color, transparency=color.getpixel((0, 0)))
    step = 4 / 255
    return {
        "png": (encode_image(color, pnginfo=info), 0),
        "gray": (encode_image(gray), 0),
        "bilevel": (encode_image(gray.convert("1")), 0),
        "palette": (encode_image(color.quantize(16)), 0),
        "palette with transparency": (encode_image(palette), 0),
        "one color transparent": (one_clear, 0),
        "alpha": (encode_image(clear), step),
        "gray with alpha": (encode_image(clear.convert("LA")), step),
        "16 bits": (encode_image(deep), step),
        "gamma": (with_chunk(encode_image(color), b"gAMA", struct.pack(">I", 100_000)), 0),
        "bmp": (encode_image(color, "BMP"), 0),
        "gif": (encode_image(color.quantize(16), "GIF"), 0),
        "webp": (encode_image(color, "WEBP", lossless=True), 0),
        "jpeg": (encode_image(color, "JPEG", quality=95), 3 * step),
        "jpeg on its side": (encode_image(tall, "JPEG", quality=95, exif=exif), 3 * step),
        "large": (encode_image(make_noise(1500, 1600, seed=5)), 0),
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_the_browser_answers_as_python_does(make_twin: Any, channels: int) -> None:
    twin = make_twin(channels=channels)
    marks = set()
    for name, (picture, apart) in pictures().items():
        here, there = twin.in_python(picture), twin.in_browser(picture)
        probabilities = {one["label"]: one["probability"] for one in there["top"]}
        wanted = dict(zip(LABELS, here["probabilities"][0].tolist(), strict=True))
        assert probabilities == pytest.approx(wanted, abs=1e-6 + apart), name
        assert [one["label"] for one in there["top"]] == sorted(wanted, key=wanted.__getitem__, reverse=True), name
        assert there["out_of_distribution"] == (here["distance"][0] > UNLIKE_FROM), name
        marks.add(there["out_of_distribution"])
    assert marks == {True, False}
    picture = encode_image(make_noise())
    assert twin.in_browser(picture, top=2)["top"] == twin.in_browser(picture)["top"][:2]


def test_sets_hold_what_python_puts_in_them(make_twin: Any) -> None:
    twin = make_twin()
    limits = np.array(make_metadata("classification", 3)["sets"]["0.95"])
    sizes = set()
    for seed in range(8):
        picture = encode_image(make_noise(seed=seed))
        found = twin.in_browser(picture, coverage=0.95)
        probabilities = twin.in_python(picture)["probabilities"]
        inside = (cumulative_mass_above(probabilities) <= limits)[0].tolist()
        assert {one["label"] for one in found["prediction_set"]} == {LABELS[i] for i in range(5) if inside[i]}
        shares = [one["probability"] for one in found["prediction_set"]]
        assert shares == sorted(shares, reverse=True)
        sizes.add(len(shares))
    assert len(sizes) > 1


def test_labels_are_given_from_their_thresholds_on(make_twin: Any) -> None:
    twin = make_twin("multilabel")
    thresholds = make_metadata("multilabel", 3)["thresholds"]
    given = set()
    for seed in range(4):
        picture = encode_image(make_noise(seed=seed))
        found = twin.in_browser(picture)
        probabilities = twin.in_python(picture)["probabilities"][0]
        wanted = {label for label, p, least in zip(LABELS, probabilities, thresholds, strict=True) if p >= least}
        assert {one["label"] for one in found["labels"]} == wanted
        assert len(found["top"]) == 5
        given |= wanted
    assert given == {"daisy", "tulip"}
    assert twin.page.get_by_role("group", name="Coverage").is_hidden()


def test_a_score_has_its_interval_and_no_mark_where_no_distance_is_known(make_twin: Any) -> None:
    twin = make_twin("regression", ood_threshold=None)
    picture = encode_image(make_noise())
    score = float(twin.in_python(picture)["score"][0])
    assert twin.in_browser(picture)["score"] == pytest.approx(score, abs=1e-5)
    found = twin.in_browser(picture, coverage=0.95)
    assert "out_of_distribution" not in found
    assert found["interval"] == pytest.approx([score - 1.25, score + 1.25], abs=1e-5)


def test_a_site_is_used_like_the_servers_page(make_twin: Any) -> None:
    page = make_twin().page
    expect(page.get_by_role("radio")).to_have_count(3)
    choose_files(page, "a.png", "b.png", make_payload("notes.txt", b"no picture at all"))
    expect(page.locator(".verdict")).to_have_count(2)
    expect(page.get_by_role("article", name="a.png")).to_contain_text("With 95% coverage")
    problem = page.get_by_role("article", name="notes.txt").locator(".problem")
    expect(problem).to_have_text("This browser cannot read this as an image. Save it as JPEG or PNG, then try again.")
    expect(page.get_by_role("button", name="Explain")).to_have_count(0)
    assert page.title() == "garden · megavit"


def test_a_picture_beyond_the_limits_is_refused_before_it_is_decoded(make_twin: Any) -> None:
    page = make_twin().page
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    long = encode_image(Image.new("L", (5_000, 20)))
    choose_files(
        page, make_payload("large.png", encode_image(Image.new("1", (8_000, 7_000)))), make_payload("long.png", long)
    )
    choose_files(page, make_payload("bomb.png", bomb))
    expect(page.get_by_role("article", name="large.png").locator(".problem")).to_have_text(
        "The image has 8000 × 7000 pixels, above the limit of 50 million: make it smaller."
    )
    expect(page.get_by_role("article", name="long.png").locator(".problem")).to_contain_text("more than 100 times")
    expect(page.get_by_role("article", name="bomb.png").locator(".problem")).to_be_visible()


def test_a_model_that_no_browser_can_feed_is_told(tmp_path: Path, runtime: Path, open_page: OpenPage) -> None:
    write_site(tmp_path / "site", b"", make_metadata("classification", 12), runtime)
    with serve_fake(None, tmp_path / "site") as address:
        page = open_page(address)
        expect(page.get_by_role("status")).to_contain_text("takes images of 12 channels")
        (tmp_path / "site" / "page" / "model.json").unlink()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("status")).to_contain_text("Model.json could not be loaded")


def test_a_site_is_whole_and_knows_no_server(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    with pytest.raises(ConfigError, match=r"has no ort\.wasm\.min\.mjs, .*npm install onnxruntime-web"):
        write_site(tmp_path / "site", b"model", make_metadata("classification", 3), runtime)
    assert not (tmp_path / "site").exists()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (runtime / name).write_text(name)
    (tmp_path / "model.onnx").write_bytes(b"model")
    write_site(tmp_path / "site", tmp_path / "model.onnx", make_metadata("classification", 3), runtime)
    page = tmp_path / "site" / "page"
    assert (page / "model.onnx").read_bytes() == b"model"
    assert 'export * from "./model_backend.js"' in (page / "backend.js").read_text()
    assert not (page / "server_backend.js").exists()
    assert "wasm-unsafe-eval" in (tmp_path / "site" / "index.html").read_text()
    assert "wasm-unsafe-eval" not in (static_folder() / "index.html").read_text()
