"""Real Chromium, without a head, and pages that fail their test where they complain or ask anybody else."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.helpers.shared_folder import BuildOnce

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

PATIENCE = 20_000  # milliseconds: a slow machine is no fault of the page

RUNTIME = "onnxruntime-web@~1.30"

OpenPage = Callable[..., Page]
"""Opens a page of an address in a browser context with the given options; `grants` are its permissions."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(address: str, *, viewport: tuple[int, int] = (1000, 800), **options: Any) -> Page:
        width, height = viewport
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()

        def on_request(request: Request) -> None:
            if not request.url.startswith((address, "blob:" + address, "data:")):
                complaints.append(f"asked {request.url}")

        def on_console(message: ConsoleMessage) -> None:
            # Chromium reports every refused request; those are the page's own business.
            if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
                complaints.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="session")
def runtime(build_once: BuildOnce) -> Path:
    """onnxruntime-web's dist, installed once for all of xdist's workers."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which brings onnxruntime-web")

    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    command = [npm, "install", *quiet, RUNTIME]

    def install(folder: Path) -> None:
        try:
            done = subprocess.run(
                [*command, "--prefix", str(folder)], capture_output=True, text=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm took too long to bring onnxruntime-web")
        if done.returncode:
            pytest.skip(f"npm could not bring onnxruntime-web: {done.stderr.strip()[-200:]}")

    return build_once("onnxruntime-web", install) / "node_modules" / "onnxruntime-web" / "dist"
