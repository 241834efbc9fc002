/** The ways in which pictures come: chosen, dropped anywhere, pasted. */

/**
 * @param {{button: HTMLElement, input: HTMLInputElement, took: (files: File[]) => void,
 *   missed: (sentence: string) => void}} parts
 *   took: is given what came; missed: hears why nothing did.
 */
export function listen({ button, input, took, missed }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    took([...input.files]);
    input.value = ""; // or the same file could not be chosen twice
  });
  listenForDrops(took, missed);
  document.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return;
    const files = [...event.clipboardData.files];
    if (files.length) took(files);
    else missed("There is no picture on the clipboard: copy one, or its file, and paste again.");
  });
}

function listenForDrops(took, missed) {
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
    event.preventDefault(); // or the browser leaves the page for the picture
    const files = [...event.dataTransfer.files];
    if (files.length) took(files);
    else missed("What was dropped is no file: save the picture first, then drop its file.");
  });
}
