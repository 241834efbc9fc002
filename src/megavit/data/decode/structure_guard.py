"""Refuse untrusted image files whose structure would occupy a decoder for minutes or fill its memory.

A small file can do so with thousands of scans, millions of markers, or directories whose entries all point to the full
file. What is counted here is what takes time in Pillow and its libraries; files that are only damaged are left to them.
"""

import re
import struct

from megavit.errors import ImageError

MAX_SCANS = 100  # largest number of scans in a JPEG, each over all pixels; progressive ones have about ten
MAX_PARTS = 2**16  # largest number of markers, blocks or entries before the pixels, including stray bytes between them
BYTES_PER_CHUNK = 2**10  # a PNG may have one more chunk per this many bytes
MAX_GIF_COMMENT = 2**20
MAX_DIRECTORY_BYTES = 2**26
"""Largest total of bytes in the entries of TIFF and EXIF directories, or twice the file's size if that is more."""
MAX_VALUES = 2**18  # largest number of values in an entry that is not bytes or text
MAX_PREFIXES = 100  # largest number of EXIF prefixes, for each of which all following bytes are copied
MAX_TEXT_COMMENTS = 1_000  # largest number of comments in a plain (ASCII) PNM file

_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE))
"""Markers whose length Pillow does not read; reading it could hide others."""
_GIF_COMMENT, _EXIF_PREFIX = b"\xfe", b"Exif\0\0"
_TIFF_SIGNATURES = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")
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
    elif data.startswith(_TIFF_SIGNATURES):
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
    offset, parts, scans, first_scan = 2, 0, 0, len(data)
    is_usual_count = data.count(b"\xff\xda") <= MAX_SCANS
    while (found := _JPEG_MARKER.search(data, offset)) is not None:
        # Before the first scan, Pillow reads stray bytes one by one.
        parts += 1 if scans else found.end() - offset
        if parts > MAX_PARTS:
            raise ImageError("the JPEG has too many markers")
        offset, marker = found.end(), data[found.end() - 1]
        if marker == _START_OF_SCAN:
            first_scan = min(first_scan, offset)
            if is_usual_count:
                break
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError(f"the JPEG has more than {MAX_SCANS} scans")
        if marker == _END_OF_IMAGE and scans:
            break
        if marker not in _WITHOUT_LENGTH:
            offset += max(2, int.from_bytes(data[offset : offset + 2]))
    return first_scan


def _check_png(data: bytes) -> list[tuple[int, int]]:
    """Check the chunks of a PNG, and return the (start, end) of those with EXIF."""
    offset, chunks, max_chunks = 8, 0, MAX_PARTS + len(data) // BYTES_PER_CHUNK
    exif = []
    while offset + 8 <= len(data):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4])
        if data[offset + 4 : offset + 8] == b"eXIf":
            exif.append((offset + 8, end))
        offset = end
        chunks += 1
        if chunks > max_chunks:
            raise ImageError("the PNG has too many chunks")
    return exif


def _check_gif(data: bytes) -> None:
    """Check the blocks before the first frame of a GIF, as Pillow reads them (GIF89a, appendix A)."""
    offset = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    parts, comment_bytes = 0, 0
    while offset < len(data) and data[offset : offset + 1] not in (b",", b";"):
        label = data[offset + 1 : offset + 2] if data[offset : offset + 1] == b"!" else b""
        offset, blocks, length = offset + 1 + len(label), 0, -1
        # Pillow skips an empty first sub-block, except in comments.
        while label and offset < len(data) and (length or (blocks == 1 and label != _GIF_COMMENT)):
            length = data[offset]
            offset, blocks = offset + 1 + length, blocks + 1
            comment_bytes += length if label == _GIF_COMMENT else 0
            if blocks + parts > MAX_PARTS or comment_bytes > MAX_GIF_COMMENT:
                break
        parts += 1 + blocks
        if parts > MAX_PARTS or comment_bytes > MAX_GIF_COMMENT:
            raise ImageError("the GIF has too much data before its first frame")


def _check_directories(data: bytes, ranges: list[tuple[int, int]]) -> None:
    entry_bytes, parts, max_bytes = 0, 0, max(MAX_DIRECTORY_BYTES, 2 * len(data))
    if sum(data.count(_EXIF_PREFIX, start, end) for start, end in ranges) > MAX_PREFIXES:
        raise ImageError("the image has too many EXIF blocks")
    for start, end in ranges:
        for signature in _TIFF_SIGNATURES:
            offset = data.find(signature, start, end + len(signature))
            while offset >= 0:
                entries, directory_bytes = _directory(data, offset)
                parts, entry_bytes = parts + 1 + entries, entry_bytes + directory_bytes
                if entry_bytes > max_bytes or parts > 2 * MAX_PARTS:
                    raise ImageError("the image has too many or too large tags")
                offset = data.find(signature, offset + 1, end)


def _directory(data: bytes, start: int) -> tuple[int, int]:
    """Return (entries, bytes they hold) of the first directory of a TIFF that begins at `start`."""
    order = "<" if data[start : start + 1] == b"I" else ">"
    (magic,) = struct.unpack_from(order + "H", data, start + 2)
    is_bigtiff = magic == 43
    entry_bytes = 0
    try:
        (offset,) = struct.unpack_from(order + ("Q" if is_bigtiff else "L"), data, start + (8 if is_bigtiff else 4))
        position = start + offset
        (entries,) = struct.unpack_from(order + ("Q" if is_bigtiff else "H"), data, position)
    except (struct.error, OverflowError):
        return 0, 0
    position += 8 if is_bigtiff else 2
    entry_format, inline_bytes = struct.Struct(order + ("HHQQ" if is_bigtiff else "HHLL")), 8 if is_bigtiff else 4
    for entry in range(entries):
        if position + entry_format.size > len(data) or entry > MAX_PARTS:
            return entry, entry_bytes
        tag, field_type, count, offset = entry_format.unpack_from(data, position)
        position += entry_format.size
        size = count * _TYPE_BYTES.get(field_type, 0)
        if size > inline_bytes and start + offset + size <= len(data):
            entry_bytes += size
            if not start and tag < _PRIVATE_TAGS and field_type not in _BYTE_TYPES and count > MAX_VALUES:
                raise ImageError("the TIFF has a tag with too many values")
    return entries, entry_bytes
