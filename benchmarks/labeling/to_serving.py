"""How long it takes from photographs without labels to a model that is served, by the commands of the guides.

    python -m benchmarks.labeling.to_serving photos truth.json --labels 100 --minutes 1

Takes a folder of images, and a JSON file with the class of each name. An oracle labels some of them by the keys of the
page, in a headless Chromium, at the pace of a person, presses its Train button, and opens the report; the model is then
served and asked once. Seconds are of the clock. At the end the model is measured on the images that have no label.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import megavit
from benchmarks.labeling.oracle import open_page, press_keys, serve_folder
from megavit.data.sources.label_log import LABEL_LOG, parse_label_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--pace", type=float, default=1.5, help="seconds that a person takes for an image")
    arguments = parser.parse_args()
    labels: dict[str, str] = json.loads(arguments.truth.read_text())
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        seconds[name] = time.perf_counter() - began - sum(seconds.values())

    classes = ",".join(sorted(set(labels.values())))
    with serve_folder(arguments.folder, "--classes", classes) as (_, url), open_page(url) as page:
        lap("the page is there")
        found: dict[str, Any] = press_keys(page, labels, arguments.labels, pace=arguments.pace)
        lap("labeled")
        found["shown"] = page.locator(".learning").inner_text()
        page.get_by_role("button", name="Train").first.click()
        page.locator("#minutes").fill(f"{arguments.minutes:g}")
        page.locator("#train").click()
        page.wait_for_function("() => /^(?!Training)./.test(document.querySelector('#training-state').textContent)")
        lap("trained")
        found["trained"] = page.locator("#training-state").inner_text()
        if page.locator("#training-report").is_hidden():
            raise SystemExit(f"labeling_to_serving: the training has failed: {found['trained']}")
        with page.expect_popup() as popup:
            page.locator("#training-report a").click()
        found["report"] = popup.value.locator("h1").first.inner_text()
        lap("the report is open")
    out = found["trained"].removeprefix("The model is in ").removesuffix(".")
    image = next(arguments.folder / name for name in labels)
    with subprocess.Popen(
        [sys.executable, "-m", "megavit", "serve", out, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        answer = httpx.post(f"{address}/predict", content=image.read_bytes(), timeout=60).raise_for_status().json()
        lap("served, and one image predicted")
        server.terminate()
    found |= {"seconds": seconds, "minutes_in_all": sum(seconds.values()) / 60}
    found |= {"true": labels[image.name], "answer": answer}
    log = parse_label_log((arguments.folder / LABEL_LOG).read_bytes(), LABEL_LOG)
    others = sorted(set(labels) - {one.path for one in log.decisions})
    predictions = megavit.load(out).predict([arguments.folder / name for name in others])
    found |= {
        "unlabeled": len(others),
        "right": sum(p.label == labels[n] for n, p in zip(others, predictions, strict=True)),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
