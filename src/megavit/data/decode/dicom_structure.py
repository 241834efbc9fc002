"""Find the pixels of a DICOM file without reading more elements than a header has."""

import io
from dataclasses import dataclass
from typing import Any

from megavit.data.decode.structure_guard import MAX_PARTS
from megavit.errors import ImageError

MAX_HEADER_BYTES = 2**22
"""Largest size of what precedes the pixels; each of its elements, of 8 bytes or more, becomes an object."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT = "1.2.840.10008.1.2"
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True)
class DicomPixels:
    """The header of a DICOM file, and where its pixels are.

    Attributes:
        header: elements before the pixels, as pydicom's data set.
        fragments: (start, end) of each part of the pixels; one if they are not compressed.
        end: end of the element of the pixels.
    """

    header: Any
    fragments: tuple[tuple[int, int], ...]
    end: int

    @property
    def size(self) -> int:
        """The number of bytes of the pixels as stored."""
        return sum(end - start for start, end in self.fragments)

    def read_frame(self, data: bytes) -> bytes:
        """Return the bytes of the only frame of compressed pixels, without the table of offsets that precedes it."""
        return b"".join(data[start:end] for start, end in self.fragments[1:])


def find_pixels(pydicom: Any, data: bytes) -> DicomPixels:
    """Return the header of a DICOM file with the position of its pixels; without fragments if it has none.

    Raises:
        ImageError: if it is deflated, or has too many elements before its pixels or too many parts of them.
    """
    start_of_file = data[:MAX_HEADER_BYTES]
    if _DEFLATED in start_of_file:  # pydicom would inflate all of it, which could fill the memory
        raise ImageError("a deflated DICOM file is not supported: save it uncompressed")
    head = io.BytesIO(start_of_file)
    header = pydicom.dcmread(head, stop_before_pixels=True)
    start, syntax = head.tell(), str(header.file_meta.TransferSyntaxUID)
    if start >= MAX_HEADER_BYTES - 12 and len(data) > MAX_HEADER_BYTES:
        raise ImageError(f"what precedes the pixels exceeds the limit of {MAX_HEADER_BYTES // 2**20} MiB")
    if len(data) < start + 8:
        return DicomPixels(header, (), start)
    order = "big" if syntax == _BIG_ENDIAN else "little"
    length_at = start + (4 if syntax == _IMPLICIT else 8)
    length, first = int.from_bytes(data[length_at : length_at + 4], order), length_at + 4
    if length != _UNDEFINED:
        return DicomPixels(header, ((first, first + length),), first + length)
    fragments, position = [], first
    while data[position : position + 4] == _ITEM:
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        fragments.append((position + 8, position + 8 + size))
        position += 8 + size
        if len(fragments) > MAX_PARTS:
            raise ImageError("the DICOM file has too many parts of pixels")
    return DicomPixels(header, tuple(fragments), position + 8)
