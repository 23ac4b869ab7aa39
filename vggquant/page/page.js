// What the page does: takes a picture, has it painted, shows both, and saves the painting.
// Styles that a visitor brings along are left to styles.js, painting to a worker, which runs painter.js and the scripts
// before it. With #plain behind its address the
// page paints without WebGL, and with #webgl in any WebGL, even one that the processor has to imitate.

const MOST_BYTES = 100e6; // of a picture's file
const MOST_READ = 100e6; // pixels of a picture
const MOST_SIDE = 8192;
const LIVE = { least: 12_000, most: 300_000, wanted: 0.2, slowest: 0.7 }; // pixels, and seconds for a picture

const element = (id) => document.getElementById(id);
const files = JSON.parse(element("networks").textContent).map(({ name, family, file }) => {
  return { name, family, bytes: Uint8Array.from(atob(file), (character) => character.charCodeAt(0)) };
});
const canvases = { original: element("original"), painting: element("painting") };

class Problem extends Error {} // something to tell the visitor, in words
class Stopped extends Error {}

// The worker that paints. What is stopped ends at once, and with it the worker, so that the next one is new.
class Painter {
  constructor() {
    const script = new Blob([element("painter").textContent], { type: "text/javascript" });
    this.address = URL.createObjectURL(script);
    this.start();
  }

  start() {
    this.worker = new Worker(this.address);
    this.ready = this.ask({ files, road: location.hash.slice(1) });
    this.ready.catch((error) => complain(error));
  }

  // Send the worker a message, and wait for its answer.
  ask(message, report) {
    return new Promise((resolve, reject) => {
      this.reject = reject;
      this.worker.onerror = () => reject(new Problem("This browser cannot run what paints. A newer one can."));
      this.worker.onmessage = ({ data: answer }) => {
        if ("progress" in answer) report?.(answer.progress);
        else if (answer.failed === "memory") reject(new Problem("There is too little memory for this picture."));
        else if (answer.failed) reject(new Problem(`This cannot be painted: ${answer.failed}.`));
        else resolve(answer);
      };
      this.worker.postMessage(message);
    });
  }

  // Likewise where it can be stopped.
  async work(message, report) {
    const mine = (this.job = Symbol("job"));
    try {
      await this.ready;
      return await this.ask(message, report);
    } finally {
      if (this.job === mine) this.job = undefined;
    }
  }

  // Paint with a network of that number, and if it takes any style, in the one that a code of 100 numbers is.
  paint(number, { data, height, width }, report, code) {
    return this.work({ number, data, height, width, code }, report);
  }

  stop() {
    if (!this.job) return;
    this.job = undefined;
    this.worker.terminate();
    this.reject(new Stopped());
    this.start();
  }
}

const painter = new Painter();
let picture; // what is to be painted: { name, source, width, height }, and what is shown of it, { pixels, most, style }
let camera; // the stream of the camera while it is open
let painting = 0; // counts what was asked for, so that what is late is not shown

function say(text) {
  element("status").textContent = text;
}

function complain(error) {
  if (error instanceof Stopped) return;
  const known = error instanceof Problem;
  element("problem").textContent = known ? error.message : `Something went wrong: ${error.message}`;
  say("");
}

// Run what a visitor asked for, and tell what went wrong.
function answering(action) {
  return async (...given) => {
    element("problem").textContent = "";
    try {
      await action(...given);
    } catch (error) {
      complain(error);
    }
  };
}

function millions(pixels) {
  return `${(pixels / 1e6).toFixed(1)} million pixels`;
}

// By how much a picture must be made smaller to have no more pixels than that, and sides that every browser draws.
function shareOf(width, height, most) {
  return Math.min(1, Math.sqrt(most / (width * height)), MOST_SIDE / Math.max(width, height));
}

// Put a picture, a frame of the video or an image, on a canvas.
function draw(canvas, source, width, height, most) {
  const share = shareOf(width, height, most);
  canvas.width = Math.max(1, Math.floor(width * share));
  canvas.height = Math.max(1, Math.floor(height * share));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
}

// Show a picture, without a painting yet.
function show(source, width, height, most) {
  draw(canvases.original, source, width, height, most);
  canvases.painting.width = canvases.original.width;
  canvases.painting.height = canvases.original.height;
  element("result").hidden = false;
}

function pixels(canvas = canvases.original) {
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
}

function showPainting({ painted, width, height }) {
  canvases.painting.getContext("2d").putImageData(new ImageData(painted, width, height), 0, 0);
}

function chosen() {
  return Number(document.querySelector("#styles input:checked").value);
}

// Lay a picture out, as large as the chosen network takes it; gives what is to be said of that.
function lay(found, { smallest, most }) {
  const { name, source, width, height } = found;
  const share = shareOf(width, height, most);
  if (Math.floor(Math.min(width, height) * share) < smallest) {
    throw new Problem(`${name} is too small: a side needs ${smallest} pixels.`);
  }
  if (found !== picture || found.most !== most) {
    show(source, width, height, most);
    picture = Object.assign(found, { pixels: pixels(), most });
  }
  return share < 1 ? `The picture has ${millions(width * height)} and was made smaller. ` : "";
}

// Have a picture painted, the one that is there or another.
async function paint(found = picture) {
  const { networks } = await painter.ready;
  const number = chosen();
  const remark = lay(found, networks[number]);
  painter.stop();
  closeCamera();
  const mine = ++painting;
  element("save").disabled = true;
  element("working").hidden = false;
  element("progress").value = 0;
  say(`${remark}Painting …`);
  try {
    const code = await codeFor(number, picture.pixels);
    const report = (progress) => (element("progress").value = progress);
    const painted = await painter.paint(number, picture.pixels, report, code);
    if (mine !== painting) return;
    showPainting(painted);
    picture.style = styleName(number);
    canvases.painting.setAttribute("aria-label", `The painting, in the style ${picture.style}`);
    element("save").disabled = false;
    const size = `${painted.width} × ${painted.height} pixels`;
    say(`${remark}Painted ${size} in ${painted.seconds.toFixed(1)} seconds with ${painted.means}.`);
  } finally {
    if (mine === painting) element("working").hidden = true;
  }
}

async function paintAgain() {
  if (picture && !camera) await paint();
}

// Have an image painted that is loaded.
async function take(image, name) {
  await paint({ name, source: image, width: image.naturalWidth, height: image.naturalHeight });
}

// Do something with the image of a file, and its name.
async function withImage(file, action) {
  if (!file) throw new Problem("That holds no picture.");
  const name = file.name || "The picture";
  if (file.size > MOST_BYTES) throw new Problem(`${name} has more than 100 megabytes, the most that this page takes.`);
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Problem(`${name} is not a picture that this browser can read.`));
      image.src = address;
    });
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    if (width * height > MOST_READ) {
      throw new Problem(`${name} has ${millions(width * height)}, and 100 million are the most that this page takes.`);
    }
    await action(image, name);
  } finally {
    URL.revokeObjectURL(address);
  }
}

const REFUSALS = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings for this page, or choose a picture.",
  NotFoundError: "No camera was found. Choose a picture instead.",
  NotReadableError: "The camera is in use by another program.",
};

async function openCamera() {
  if (!navigator.mediaDevices) throw new Problem("This browser gives no camera to a page that is opened like this.");
  const wanted = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted }).catch((error) => {
    throw new Problem(REFUSALS[error.name] ?? `The camera cannot be used: ${error.message}.`);
  });
  closeCamera();
  painter.stop();
  camera = stream;
  const video = element("video");
  video.srcObject = stream;
  await video.play();
  for (const id of ["take", "close"]) element(id).hidden = false;
  element("stage").classList.add("live");
  element("save").disabled = true;
  say("The camera is open.");
  await paintLive(stream, video);
}

// Paint frame after frame, as large as is fast enough.
async function paintLive(stream, video) {
  const frame = document.createElement("canvas");
  let area = LIVE.least;
  for (let first = true; camera === stream; first = false) {
    const began = performance.now();
    draw(frame, video, video.videoWidth, video.videoHeight, area);
    const [number, taken] = [chosen(), pixels(frame)];
    const found = await painter.paint(number, taken, undefined, await codeFor(number, taken));
    if (camera !== stream) return;
    show(frame, frame.width, frame.height, LIVE.most);
    showPainting(found);
    const seconds = (performance.now() - began) / 1000;
    if (area === LIVE.least && seconds > LIVE.slowest && !first) {
      say("This machine is too slow to paint live. Take a picture, and it is painted.");
      return showLive(stream, video);
    }
    area = Math.min(LIVE.most, Math.max(LIVE.least, area * Math.sqrt(LIVE.wanted / seconds)));
    await new Promise(requestAnimationFrame);
  }
}

// Show frame after frame as it is.
async function showLive(stream, video) {
  while (camera === stream) {
    show(video, video.videoWidth, video.videoHeight, LIVE.most);
    await new Promise(requestAnimationFrame);
  }
}

async function takeFrame() {
  const video = element("video");
  const frame = document.createElement("canvas");
  draw(frame, video, video.videoWidth, video.videoHeight, MOST_READ);
  await paint({ name: "camera", source: frame, width: frame.width, height: frame.height });
}

function closeCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = undefined;
  element("stage").classList.remove("live");
  for (const id of ["take", "close"]) element(id).hidden = true;
}

// A file's name without its ending.
function bare(name) {
  return name.replace(/\.\w+$/, "");
}

function save() {
  canvases.painting.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${bare(picture.name)}-${picture.style}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

function moveBorder(share) {
  const border = element("border");
  border.value = share;
  element("stage").style.setProperty("--border", `${border.value}%`);
  border.setAttribute("aria-valuetext", `${100 - border.value} percent painting`);
}

files.forEach(({ name }, number) => {
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "style", value: number });
  radio.checked = number === 0;
  label.append(radio, Object.assign(document.createElement("span"), { textContent: name }));
  element("styles").append(label);
});

painter.ready.then(({ networks }) => {
  networks.forEach(({ attribution, changes }, number) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = files[number].name;
    text.textContent = [attribution, changes].filter(Boolean).join("; ") || "Nothing is known of its origin.";
    element("credits").append(term, text);
  });
}, () => {}); // which was told already

element("file").addEventListener("change", answering(async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) await withImage(file, take);
}));
element("take-example").addEventListener("click", answering(() => take(element("example"), "example")));
element("camera").addEventListener("click", answering(openCamera));
element("take").addEventListener("click", answering(takeFrame));
element("close").addEventListener("click", answering(() => {
  painter.stop();
  closeCamera();
  say("");
}));
element("stop").addEventListener("click", () => {
  painter.stop();
  say("Stopped.");
});
element("save").addEventListener("click", save);
element("styles").addEventListener("change", answering(async () => {
  showStyles();
  await paintAgain();
}));
element("border").addEventListener("input", ({ target }) => moveBorder(target.value));
for (const kind of ["pointerdown", "pointermove"]) {
  element("stage").addEventListener(kind, (event) => {
    const { left, width } = element("stage").getBoundingClientRect();
    if (event.buttons) moveBorder((100 * (event.clientX - left)) / width);
  });
}
moveBorder(50);
element("problem").textContent = ""; // what older browsers show

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", answering(async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  await withImage(event.dataTransfer.files[0], takerAt(event.target));
}));
document.addEventListener("paste", answering(async ({ clipboardData }) => {
  await withImage(clipboardData.files[0], takerAt(document.activeElement));
}));
