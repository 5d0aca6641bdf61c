
// Shows the scans that the page carries, each when its button is pressed.
function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
}
for (const button of document.querySelectorAll("button.scroll-case")) {
  button.addEventListener("click", () => {
    const carried = JSON.parse(document.getElementById(button.dataset.carried).textContent);
    button.hidden = true;
    showScan(button.nextElementSibling, carried.setup, async (name) => bytesOf(carried.files[name]));
  });
}
