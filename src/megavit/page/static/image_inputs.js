/** Images that are chosen, dropped anywhere or pasted. */

/**
 * @param {{button: HTMLElement, input: HTMLInputElement, onFiles: (files: File[]) => void,
 *   onError: (sentence: string) => void}} parts
 */
export function listen({ button, input, onFiles, onError }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    onFiles([...input.files]);
    input.value = ""; // otherwise the same file could not be chosen twice
  });
  listenForDrops(onFiles, onError);
  document.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return;
    const files = [...event.clipboardData.files];
    if (files.length) onFiles(files);
    else onError("There is no image on the clipboard: copy one, or its file, and paste again.");
  });
}

function listenForDrops(onFiles, onError) {
  const { classList } = document.body;
  const isText = (event) => event.target instanceof HTMLInputElement && !event.dataTransfer.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (isText(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    classList.remove("dragging");
    if (isText(event)) return;
    event.preventDefault(); // otherwise the browser opens the file
    const files = [...event.dataTransfer.files];
    if (files.length) onFiles(files);
    else onError("What was dropped is not a file: save the image first, then drop its file.");
  });
}
