"use strict";
// The picture stays in the browser until it is sent to /v1/jobs, as any other client sends it.

const API = "../v1/";
const MILLISECONDS_BETWEEN_LOOKS = 300;
const MILLISECONDS_BETWEEN_TRIES = 2000;
const $ = (id) => document.getElementById(id);

let chosen = null; // the File
let networks = [];
let run = null; // { stop: AbortController, id: the job's once it is known }

// What is shown

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const duration = (seconds) =>
  seconds < 60
    ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
    : `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;

// A status is read out by screen readers when it changes, and an error at once.
const say = (text) => {
  if ($("message").textContent !== text) $("message").textContent = text;
};
const fail = (text) => {
  say("");
  $("error").textContent = sentence(text);
};

const clear = () => {
  $("error").textContent = "";
  $("warnings").replaceChildren();
  for (const id of ["running", "download", "compare"]) $(id).hidden = true;
};

const showProgress = (job) => {
  $("running").hidden = job.state !== "running";
  if (job.state === "queued") {
    say(job.place ? `Waiting: ${job.place} before this one.` : "Waiting for its turn.");
    return;
  }
  say(`Enlarging ${job.width}×${job.height} pixels by ${job.model}.`);
  const percent = Math.round(100 * job.progress);
  const left = job.seconds_left === null ? "" : `, ${duration(job.seconds_left)} left`;
  $("part").textContent = `${percent} %${left}`;
  $("bar").value = percent;
};

const showResult = async (job, seconds) => {
  const path = `${API}jobs/${job.id}/`;
  const head = await fetch(`${path}result`, { method: "HEAD" }).catch(() => null);
  const bytes = head?.ok ? `${size(Number(head.headers.get("Content-Length")))}, ` : "";
  say(
    `${job.width}×${job.height} → ${job.result_width}×${job.result_height} pixels, ${bytes}` +
      `by ${job.model} in ${duration(seconds)}.`,
  );
  for (const text of job.warnings) {
    const item = document.createElement("li");
    item.textContent = sentence(text);
    $("warnings").append(item);
  }
  $("download").href = `${path}result`;
  $("download").textContent = `Download ${job.format.toUpperCase()}`;
  $("download").hidden = false;
  showCompared(job, path);
};

const showCompared = async (job, path) => {
  for (const which of ["before", "after"]) $(which).src = path + which;
  try {
    await Promise.all([$("before").decode(), $("after").decode()]);
  } catch {
    if ($("after").src.includes(job.id)) $("error").textContent = "The images cannot be shown here; the download can.";
    return;
  }
  $("compare").style.setProperty("--width", `${job.result_width}px`);
  moveLine(50);
  $("compare").hidden = false;
};

// From a picture to its result

class Refused extends Error {
  constructor(text, again) {
    super(text);
    this.again = again; // whether asking again may help
  }
}

const ask = async (path, options) => {
  let answer;
  try {
    answer = await fetch(API + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the server does not answer", true);
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({ error: `the server answered with status ${answer.status}` }));
  if (!answer.ok) throw new Refused(said.error, [502, 503, 504].includes(answer.status));
  return said;
};

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

const send = (signal) => {
  const body = new FormData();
  body.append("file", chosen);
  for (const id of ["model", "scale", "format"]) if ($(id).value) body.append(id, $(id).value);
  return ask("jobs", { method: "POST", body, signal }).catch((error) => {
    if (error instanceof Refused && error.message === "the server does not answer")
      throw new Refused("the image could not be sent: choose it again, or see whether the server is still there");
    throw error;
  });
};

// The job when it is finished. A server that is gone for a while goes on with it when it is back.
const follow = async (job, signal) => {
  while (["queued", "running"].includes(job.state)) {
    showProgress(job);
    await pause(MILLISECONDS_BETWEEN_LOOKS, signal);
    try {
      job = await ask(`jobs/${job.id}`, { signal });
    } catch (error) {
      if (!error.again) throw error;
      say("The server does not answer: trying again …");
      await pause(MILLISECONDS_BETWEEN_TRIES, signal);
    }
  }
  return job;
};

// One button can be pressed no more, and the other instead; whoever was at it is at the other then.
const press = (one, other) => {
  $(other).disabled = false;
  if (document.activeElement === $(one)) $(other).focus();
  $(one).disabled = true;
};

const start = async () => {
  if (run) return;
  clear();
  if (!chosen) {
    fail("Choose an image first.");
    return;
  }
  const since = performance.now();
  run = { stop: new AbortController(), id: null };
  const { signal } = run.stop;
  press("start", "stop");
  try {
    say("Sending the image …");
    let job = await send(signal);
    run.id = job.id;
    job = await follow(job, signal);
    if (job.state !== "done") throw new Refused(job.error);
    $("running").hidden = true;
    await showResult(job, (performance.now() - since) / 1000);
  } catch (error) {
    clear();
    fail(error.name === "AbortError" ? "Cancelled." : error.message);
  } finally {
    run = null;
    press("stop", "start");
  }
};

const cancel = () => {
  if (run?.id) fetch(`${API}jobs/${run.id}`, { method: "DELETE", keepalive: true }).catch(() => null);
  run?.stop.abort(); // if it is being sent, the server sees that nobody waits for the answer
};

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
$("stop").addEventListener("click", cancel);
addEventListener("pagehide", cancel);

// Which picture, and what is to be made of it

const choose = (file) => {
  if (!file) return;
  chosen = file;
  $("chosen").textContent = `${file.name || "pasted"}, ${size(file.size)}`;
};
$("file").addEventListener("change", () => choose($("file").files[0]));
document.addEventListener("paste", (event) => choose(event.clipboardData?.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("picture").classList.add("over");
});
document.addEventListener("dragleave", () => $("picture").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("picture").classList.remove("over");
  choose(event.dataTransfer.files[0]);
});

const showFactor = () => {
  $("factor").textContent = `×${$("scale").value}`;
};
const limitScale = () => {
  const most = Math.max(...networks.map((network) => network.scale ?? 1));
  $("scale").max = networks.find((network) => network.name === $("model").value)?.scale ?? most;
  $("scale").value = Math.min(4, $("scale").max);
  showFactor();
};
$("model").addEventListener("change", limitScale);
$("scale").addEventListener("input", showFactor);

ask("models").then(
  (found) => {
    networks = found;
    $("model").replaceChildren(...networks.map(({ name }) => new Option(name)));
    limitScale();
  },
  (error) => fail(error.message),
);
showFactor();

// Before and after: the slider below the pictures, and pointers on them, move the line

const moveLine = (percent) => {
  $("at").value = percent;
  $("at").setAttribute("aria-valuetext", `${$("at").value} % before`);
  $("compare").style.setProperty("--at", `${$("at").value}%`);
};
const frame = document.querySelector(".frame");
const drag = (event) => {
  if (!event.buttons || $("compare").classList.contains("full")) return;
  if (event.type === "pointerdown") frame.setPointerCapture(event.pointerId);
  const place = frame.getBoundingClientRect();
  moveLine((100 * (event.clientX - place.left)) / place.width);
  event.preventDefault();
};
frame.addEventListener("pointerdown", drag);
frame.addEventListener("pointermove", drag);
$("at").addEventListener("input", () => moveLine($("at").value));
$("full").addEventListener("change", () => $("compare").classList.toggle("full", $("full").checked));
