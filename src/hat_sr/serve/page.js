// The picture that was chosen stays in the browser until it is sent to /v1/jobs, as any other client sends it.
let chosen = null;

const choose = (file) => {
  if (!file) return;
  chosen = file;
  const size = file.size < 1e6 ? `${Math.ceil(file.size / 1e3)} kB` : `${(file.size / 1e6).toFixed(1)} MB`;
  document.querySelector("#picture output").textContent = `${file.name || "pasted"}, ${size}`;
};

document.addEventListener("change", (event) => {
  if (event.target.matches("#picture input[type=file]")) choose(event.target.files[0]);
});
document.addEventListener("paste", (event) => choose(event.clipboardData && event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});

// The job's id; or "!" and what is wrong.
window.sendPicture = async (model, scale, format) => {
  if (!chosen) return "!Choose an image first.";
  document.querySelector("#state p").textContent = "Sending the image …";
  const form = new FormData();
  form.append("file", chosen);
  form.append("model", model);
  form.append("scale", scale);
  if (format) form.append("format", format);
  try {
    const answer = await fetch("../v1/jobs", { method: "POST", body: form });
    const said = await answer.json();
    return answer.ok ? said.id : "!" + said.error;
  } catch (error) {
    return "!The image could not be sent: choose it again, or see whether the server is still there.";
  }
};

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
