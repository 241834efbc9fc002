"""How `megavit label` does with many images: first paint, scrolling, memory, and the time to learn from many labels.

    python -m benchmarks.labeling.scale photos --labels 10000

Takes a folder of SUBFOLDER/*, whose subfolders are the classes here. The page is opened in a headless Chromium and
scrolled from end to end, and then most images get their labels at once, as one window would send them. Times are of the
clock; those of processors stand beside them, for a machine that has other work. The second run on a folder finds
thumbnails and features.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from benchmarks.labeling.oracle import open_page, serve_folder, wait_until_seen

SCROLL = """async () => {
  const box = document.querySelector("#grid");
  const times = [];
  let most = 0;
  let last = performance.now();
  for (let place = 0; place <= box.scrollHeight; place += Math.max(300, box.scrollHeight / 120)) {
    box.scrollTop = place;
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const now = performance.now();
    times.push(now - last);
    last = now;
    most = Math.max(most, document.querySelectorAll("*").length);
  }
  times.sort((one, other) => one - other);
  return { frames: times.length, median_ms: times[times.length >> 1], worst_ms: times.at(-1), most_nodes: most };
}"""
PAINT = "() => performance.getEntriesByType('paint').find(({ name }) => name === 'first-contentful-paint').startTime"


def read_process(number: int) -> dict[str, float]:
    """Return what Linux knows of a process: its memory and the peak of it in MiB, and its processor time in seconds."""
    status = Path(f"/proc/{number}/status").read_text().splitlines()
    sizes = {line.partition(":")[0]: int(line.split()[1]) / 1024 for line in status if line.startswith("Vm")}
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return {"memory_mib": sizes["VmRSS"], "peak_mib": sizes["VmHWM"], "cpu_seconds": sum(map(int, fields[11:13])) / 100}


def look(page: Page) -> dict[str, Any]:
    """Return how long the page takes to show something, and to scroll through all images."""
    painted = page.evaluate(PAINT)
    page.locator("#filter").select_option("all:")
    page.locator(".cell img").first.wait_for()
    return {"first_paint_ms": painted, "scroll": page.evaluate(SCROLL)}


def label_many(url: str, count: int) -> dict[str, Any]:
    """Label many images at once, then one more, and return how long it takes to learn from them."""
    with httpx.Client(base_url=url, timeout=600) as client:
        names = client.get("api/session").json()["names"]
        images = range(0, len(names), max(1, len(names) // (count + 1)))[: count + 1]
        by_class: dict[str, list[int]] = {}
        for image in images[:-1]:
            by_class.setdefault(names[image].partition("/")[0], []).append(image)
        began = time.perf_counter()
        for number, (label, group) in enumerate(by_class.items()):
            marks = [{"image": image} for image in group]
            body = {"stroke": f"{number:08}", "status": "labeled", "labels": [label], "marks": marks}
            client.post("api/strokes", json=body).raise_for_status()
        written = time.perf_counter() - began
        wait_for(client, len(images) - 1, estimated=True)
        body = {"stroke": "ffffffff", "status": "labeled", "labels": [names[images[-1]].partition("/")[0]]}
        began = time.perf_counter()
        client.post("api/strokes", json=body | {"marks": [{"image": images[-1]}]}).raise_for_status()
        stroke = time.perf_counter() - began
        learning = wait_for(client, len(images))
        learned = time.perf_counter() - began
    return {
        "labels": learning["labels"],
        "write_seconds": written,
        "stroke_seconds": stroke,
        "fit_seconds": learning["seconds"],
        "stroke_to_new_order_seconds": learned,
        "estimate": learning["estimate"],
    }


def wait_for(client: httpx.Client, labels: int, *, estimated: bool = False) -> dict[str, Any]:
    """Return what is learned once it is from so many labels."""
    changes = client.get("api/changes").json()
    while True:
        learning, estimate = changes["learning"], changes["learning"]["estimate"]
        if learning["labels"] >= labels and (not estimated or (estimate and estimate["labels"] >= labels)):
            return learning
        time.sleep(0.02)
        where = {"generation": changes["generation"], "since": changes["since"]}
        changes = client.get("api/changes", params=where).json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--from", dest="source", default="scratch")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with serve_folder(arguments.folder, "--from", arguments.source) as (server, url):
        ready = time.perf_counter() - began
        found: dict[str, Any] = {"images": wait_until_seen(url), "seconds_to_address": ready}
        before = read_process(server.pid)
        with open_page(url) as page:
            found |= look(page)
        found["server"] = before
        found["server_after_page"] = read_process(server.pid)
        found |= label_many(url, arguments.labels)
        found["server_after_labels"] = read_process(server.pid)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
