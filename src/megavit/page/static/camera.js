/** The camera: on while its panel is open, and off once an image is taken. */
import { sentence } from "./format.js";

const REASONS = {
  NotAllowedError: "The camera is not allowed here. Allow it for this page in the browser’s settings.",
  NotFoundError: "No camera was found. Connect one, then try again.",
  NotReadableError: "The camera is used by another program. Close that, then try again.",
};

let taken = 0;

/**
 * @param {{opener: HTMLButtonElement, panel: HTMLElement, video: HTMLVideoElement, shutter: HTMLButtonElement,
 *   closer: HTMLButtonElement, onFiles: (files: File[]) => void, onError: (sentence: string) => void}} parts
 */
export function useCamera({ opener, panel, video, shutter, closer, onFiles, onError }) {
  // Browsers allow it on localhost and over HTTPS only.
  opener.hidden = !navigator.mediaDevices?.getUserMedia;

  const stop = () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    panel.hidden = true;
    opener.disabled = false;
    opener.focus();
  };

  opener.addEventListener("click", async () => {
    opener.disabled = true;
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      opener.disabled = false;
      opener.focus();
      onError(REASONS[error.name] ?? sentence(`The camera cannot be used: ${error.message}`));
      return;
    }
    panel.hidden = false;
    await video.play();
    shutter.focus();
  });
  shutter.addEventListener("click", async () => {
    const image = await captureFrame(video);
    stop();
    taken += 1;
    onFiles([new File([image], `camera ${taken}.png`, { type: "image/png" })]);
  });
  closer.addEventListener("click", stop);
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
  });
  addEventListener("pagehide", stop);
}

function captureFrame(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
}
