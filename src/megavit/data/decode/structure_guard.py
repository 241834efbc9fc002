"""Refuse untrusted image files whose structure would occupy a decoder for minutes or fill its memory.

A small file can do so with thousands of scans, millions of markers, or directories whose entries all hold the full
file. What is counted here is what takes time in Pillow and its libraries; files that are only damaged are left to them.
"""

import re
import struct

from megavit.errors import ImageError

MAX_SCANS = 100  # largest number of scans in a JPEG, each over all pixels; progressive ones have about ten
MAX_PARTS = 2**16  # largest number of markers, blocks or entries before the pixels, including stray bytes between them
PART_BYTES = 2**10  # number of bytes for each of which a PNG may have one more chunk
MAX_GIF_COMMENT = 2**20
MAX_DIRECTORY = 2**26
"""Largest total of bytes in the entries of TIFF and EXIF directories, or twice the file's size if that is more."""
MAX_VALUES = 2**18  # largest number of values in an entry that is not bytes or text
MAX_PREFIXES = 100  # largest number of EXIF prefixes, for each of which all following bytes are copied
MAX_TEXT_COMMENTS = 1_000  # largest number of comments in a PPM in ASCII digits

_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_END, _SCAN = 0xD9, 0xDA
_ALONE = (0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE))
"""Markers whose length Pillow does not read; reading it could hide others."""
_COMMENT, _PREFIX = b"\xfe", b"Exif\0\0"
_DIRECTORIES = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")
_PRIVATE_TAGS = 32_768
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Size in bytes by type of TIFF entry (TIFF 6.0, section 2, and BigTIFF)."""
_BYTE_TYPES = (1, 2, 6, 7)


def check_structure(data: bytes) -> None:
    """Raise an ImageError if a file would take a decoder far longer than its size and pixels suggest."""
    if data.startswith(b"\xff\xd8"):
        _check_directories(data, [(0, _check_jpeg(data))])
    elif data.startswith(b"\x89PNG"):
        _check_directories(data, _check_png(data))
    elif data.startswith(_DIRECTORIES):
        _check_directories(data, [(0, 1)])
    elif data.startswith(b"RIFF") or data[4:8] == b"ftyp":
        check_exif(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data.startswith((b"P1", b"P2", b"P3")) and data.count(b"#") > MAX_TEXT_COMMENTS:
        raise ImageError(f"the plain (ASCII) PNM file has more than {MAX_TEXT_COMMENTS:,} comments")


def check_exif(data: bytes) -> None:
    """Raise an ImageError for EXIF, or bytes that contain it, with too many or too large entries."""
    _check_directories(data, [(0, len(data))])


def _check_jpeg(data: bytes) -> int:
    """Check the markers of a JPEG (ITU-T T.81, annex B), and return the offset of its first scan."""
    at, parts, scans, head = 2, 0, 0, len(data)
    few = data.count(b"\xff\xda") <= MAX_SCANS
    while (found := _MARKER.search(data, at)) is not None:
        # Before the first scan, Pillow reads stray bytes one by one.
        parts += 1 if scans else found.end() - at
        if parts > MAX_PARTS:
            raise ImageError("the JPEG has too many markers")
        at, marker = found.end(), data[found.end() - 1]
        if marker == _SCAN:
            head = min(head, at)
            if few:
                break
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError(f"the JPEG has more than {MAX_SCANS} scans")
        if marker == _END and scans:
            break
        if marker not in _ALONE:
            at += max(2, int.from_bytes(data[at : at + 2]))
    return head


def _check_png(data: bytes) -> list[tuple[int, int]]:
    """Check the chunks of a PNG, and return the (start, end) of those with EXIF."""
    at, chunks, most = 8, 0, MAX_PARTS + len(data) // PART_BYTES
    exif = []
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"eXIf":
            exif.append((at + 8, end))
        at = end
        chunks += 1
        if chunks > most:
            raise ImageError("the PNG has too many chunks")
    return exif


def _check_gif(data: bytes) -> None:
    """Check the blocks before the first frame of a GIF, as Pillow reads them (GIF89a, appendix A)."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    parts, comment = 0, 0
    while at < len(data) and data[at : at + 1] not in (b",", b";"):
        kind = data[at + 1 : at + 2] if data[at : at + 1] == b"!" else b""
        at, blocks, length = at + 1 + len(kind), 0, -1
        # Pillow skips an empty first sub-block, except in comments.
        while kind and at < len(data) and (length or (blocks == 1 and kind != _COMMENT)):
            length = data[at]
            at, blocks = at + 1 + length, blocks + 1
            comment += length if kind == _COMMENT else 0
            if blocks + parts > MAX_PARTS or comment > MAX_GIF_COMMENT:
                break
        parts += 1 + blocks
        if parts > MAX_PARTS or comment > MAX_GIF_COMMENT:
            raise ImageError("the GIF has too much data before its first frame")


def _check_directories(data: bytes, places: list[tuple[int, int]]) -> None:
    held, parts, most = 0, 0, max(MAX_DIRECTORY, 2 * len(data))
    if sum(data.count(_PREFIX, start, end) for start, end in places) > MAX_PREFIXES:
        raise ImageError("the image has too many EXIF blocks")
    for start, end in places:
        for signature in _DIRECTORIES:
            at = data.find(signature, start, end + len(signature))
            while at >= 0:
                entries, size = _directory(data, at)
                parts, held = parts + 1 + entries, held + size
                if held > most or parts > 2 * MAX_PARTS:
                    raise ImageError("the image has too many or too large tags")
                at = data.find(signature, at + 1, end)


def _directory(data: bytes, start: int) -> tuple[int, int]:
    """Return (entries, bytes they hold) of the first directory of a TIFF that begins at `start`."""
    order = "<" if data[start : start + 1] == b"I" else ">"
    (magic,) = struct.unpack_from(order + "H", data, start + 2)
    wide = magic == 43
    held = 0
    try:
        (offset,) = struct.unpack_from(order + ("Q" if wide else "L"), data, start + (8 if wide else 4))
        at = start + offset
        (entries,) = struct.unpack_from(order + ("Q" if wide else "H"), data, at)
    except (struct.error, OverflowError):
        return 0, 0
    at += 8 if wide else 2
    form, inside = struct.Struct(order + ("HHQQ" if wide else "HHLL")), 8 if wide else 4
    for read in range(entries):
        if at + form.size > len(data) or read > MAX_PARTS:
            return read, held
        tag, kind, count, offset = form.unpack_from(data, at)
        at += form.size
        size = count * _TYPE_BYTES.get(kind, 0)
        if size > inside and start + offset + size <= len(data):
            held += size
            if not start and tag < _PRIVATE_TAGS and kind not in _BYTE_TYPES and count > MAX_VALUES:
                raise ImageError("the TIFF has a tag with too many values")
    return entries, held
