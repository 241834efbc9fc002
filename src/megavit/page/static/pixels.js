/** Decode an image file to the pixels that a model takes, by the rules of Python's reader. */
import { BackendError } from "./errors.js";

export const MAX_PIXELS = 50e6;
const MAX_ASPECT_RATIO = 100;
const STRIP_PIXELS = 2 ** 20; // drawn at once, so that memory holds no second copy of a large image

const UNREADABLE = "This browser cannot read this as an image. Save it as JPEG or PNG, then try again.";

/**
 * An image's pixels, upright, with transparency on white.
 *
 * @param {Blob} blob An image file.
 * @param {1 | 3} channels
 * @returns {Promise<{pixels: Uint8Array, height: number, width: number}>} pixels: (height, width, channels).
 * @throws {BackendError}
 */
export async function readPixels(blob, channels) {
  checkSize(...(await readSize(blob)));
  let bitmap;
  try {
    // Color profiles are not applied by Python's reader either.
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new BackendError(UNREADABLE);
  }
  const { height, width } = bitmap;
  const pixels = new Uint8Array(height * width * channels);
  const fill = channels === 1 ? luma : colors;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "#ffffff";
  for (let top = 0; top < height; top += rows) {
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const count = Math.min(rows, height - top);
    fill(context.getImageData(0, 0, width, count).data, pixels.subarray(top * width * channels));
  }
  bitmap.close();
  return { pixels, height, width };
}

/** The image's width and height, upright, from its header: before memory is allocated for its pixels. */
async function readSize(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    throw new BackendError(UNREADABLE);
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

/** Throws a BackendError for an image that is too large, or too long. */
export function checkSize(width, height) {
  const came = `The image has ${width} × ${height} pixels`;
  if (width * height > MAX_PIXELS) {
    throw new BackendError(`${came}, above the limit of ${MAX_PIXELS / 1e6} million: make it smaller.`);
  }
  if (Math.max(width, height) > MAX_ASPECT_RATIO * Math.min(width, height)) {
    throw new BackendError(`${came}, one side more than ${MAX_ASPECT_RATIO} times the other: cut it.`);
  }
}

/** RGBA as RGB. */
function colors(rgba, out) {
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    out[to] = rgba[from];
    out[to + 1] = rgba[from + 1];
    out[to + 2] = rgba[from + 2];
  }
}

/** RGBA as gray: the luma of ITU-R BT.601 in whole numbers, as Pillow has it. */
export function luma(rgba, out) {
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 1) {
    out[to] = (19595 * rgba[from] + 38470 * rgba[from + 1] + 7471 * rgba[from + 2] + 0x8000) >> 16;
  }
}
