// A picture that is pasted goes where one that is dropped goes.
document.addEventListener("paste", (event) => {
  const pasted = event.clipboardData && event.clipboardData.files;
  if (!pasted || !pasted.length) return;
  const give = (tries) => {
    const input = document.querySelector("#picture input[type=file]");
    if (input) {
      const files = new DataTransfer();
      files.items.add(pasted[0]);
      input.files = files.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (tries) {
      const clear = document.querySelector("#picture button[aria-label='Clear']");
      if (clear) clear.click();
      setTimeout(give, 100, tries - 1);
    }
  };
  give(20);
});

// Before and after: the slider below the picture, and pointers on it, move the line.
document.addEventListener("input", (event) => {
  const compare = event.target.closest(".compare");
  if (!compare) return;
  if (event.target.type === "range") compare.style.setProperty("--at", event.target.value + "%");
  if (event.target.type === "checkbox") compare.classList.toggle("full", event.target.checked);
});
const drag = (event) => {
  const frame = event.target.closest && event.target.closest(".compare:not(.full) .frame");
  if (!frame || !event.buttons) return;
  const place = frame.getBoundingClientRect();
  const range = frame.parentElement.querySelector("input[type=range]");
  range.value = (100 * (event.clientX - place.left)) / place.width;
  range.dispatchEvent(new Event("input", { bubbles: true }));
  event.preventDefault();
};
document.addEventListener("pointerdown", drag);
document.addEventListener("pointermove", drag);
