"""Compute the features of a folder's images in the background, and keep them beside the thumbnails.

FOLDER/.megavit/features/KEY/00000.safetensors   features of some images; the metadata has the keys of their thumbnails
"""

import json
from collections import deque
from collections.abc import Iterable, Sequence

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megavit.config.serialization import parse_json
from megavit.errors import ConfigError, ImageError
from megavit.labeling.learning.features import Features
from megavit.labeling.thumbnails import CACHE_FOLDER, Thumbnails
from megavit.runtime.storage import writing
from megavit.weights.bundle.safetensors_io import write_tensors

BATCH_IMAGES = 32
WRITE_IMAGES = 1_024
"""Number of images whose features are written together."""


class FeatureTable:
    """The features of images, as far as they are computed.

    Attributes:
        rows: (N, D) features in the order of the images; None before the first.
        is_known: (N,) bool, which rows are computed.
        failed: indices of the images that cannot be read.
    """

    def __init__(self, features: Features, thumbnails: Thumbnails, order: Sequence[int]) -> None:
        """Read what an earlier session has kept.

        Args:
            order: order in which the images are computed.
        """
        self.features, self._thumbnails = features, thumbnails
        self.folder = thumbnails.images.folder / CACHE_FOLDER / "features" / features.key
        count = len(thumbnails.images.names)
        self.rows: Tensor | None = None
        self.is_known = torch.zeros(count, dtype=torch.bool)
        self.failed: set[int] = set()
        self._unwritten: dict[int, str] = {}
        self._pending = deque(order)
        self._read()

    @property
    def is_complete(self) -> bool:
        """Whether all images that can be read have features."""
        return not self._pending

    @property
    def done(self) -> int:
        """The number of images that have features or cannot be read."""
        return int(self.is_known.sum()) + len(self.failed)

    def compute_some(self, first: Iterable[int] = ()) -> None:
        """Compute the features of a batch of images, beginning with those in `first`, and write them now and then."""
        wanted = [index for index in first if not self.is_known[index] and index not in self.failed][:BATCH_IMAGES]
        while self._pending and len(wanted) < BATCH_IMAGES:
            index = self._pending.popleft()
            if not self.is_known[index] and index not in self.failed and index not in wanted:
                wanted.append(index)
        pixels: dict[int, Tensor] = {}
        for index in wanted:
            try:
                pixels[index] = self._thumbnails.pixels(index)
                self._unwritten[index] = self._thumbnails.key(index)
            except ImageError:
                self.failed.add(index)
        if pixels:
            self._put(list(pixels), self.features.compute(list(pixels.values())))
        if len(self._unwritten) >= WRITE_IMAGES or (self.is_complete and self._unwritten):
            self._write()

    def _put(self, indices: Sequence[int], rows: Tensor) -> None:
        if self.rows is None:
            self.rows = torch.zeros(len(self.is_known), rows.shape[1])
        places = torch.tensor(indices)
        self.rows[places] = rows
        self.is_known[places] = True

    def _write(self) -> None:
        assert self.rows is not None
        new, self._unwritten = self._unwritten, {}
        with writing("the features", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{len(list(self.folder.glob('*.safetensors'))):05}.safetensors"
            rows = self.rows[torch.tensor(list(new))]
            write_tensors(path, {"features": rows}, {"record": json.dumps({"keys": list(new.values())})})

    def _read(self) -> None:
        """Read what is kept; a damaged file is left out, and its images are computed again."""
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            return
        indices: dict[str, int] = {}
        for index in range(len(self.is_known)):
            try:
                indices[self._thumbnails.key(index)] = index
            except ImageError:
                self.failed.add(index)
        for path in files:
            try:
                with safe_open(path, "pt") as file:
                    rows = file.get_tensor("features")
                    keys = parse_json((file.metadata() or {})["record"].encode(), str(path))["keys"]
                kept = [(place, indices[key]) for place, key in enumerate(keys) if key in indices]
                if kept:
                    self._put([index for _, index in kept], rows[torch.tensor([place for place, _ in kept])])
            except (ConfigError, IndexError, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError):
                continue
