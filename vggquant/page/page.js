// What the page does: takes a picture, has it painted, shows both, and saves the painting.
// Styles that a visitor brings along are left to styles.js, the camera to camera.js, and painting to a worker, which
// runs painter.js and the scripts before it. With #plain behind its address the page paints without WebGL, and with
// #webgl in any WebGL, even one that the processor has to imitate.

const MOST_BYTES = 100e6; // of a picture's file
const MOST_READ = 100e6; // pixels of a picture
const MOST_SIDE = 8192;

const element = (id) => document.getElementById(id);
const files = JSON.parse(element("networks").textContent).map(({ name, family, file }) => {
  return { name, family, bytes: Uint8Array.from(atob(file), (character) => character.charCodeAt(0)) };
});
const canvases = { original: element("original"), painting: element("painting") };

const painter = new Painter(files, location.hash.slice(1));
painter.ready.catch((error) => complain(error));
let picture; // what is painted: { name, source, width, height, style }, and as what size, { pixels, most }
let onStage; // the pixels of the picture that the canvases show; undefined while they show the camera
let painting = 0; // counts what was asked for, so that what is late is not shown

function say(text) {
  element("status").textContent = text;
}

function complain(error) {
  if (error instanceof Stopped) return;
  const known = error instanceof Problem;
  element("problem").textContent = known ? error.message : `Something went wrong: ${error.message}`;
  if (element("working").hidden) say(""); // or it tells of other work, which goes on
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

// Refuse what has fewer pixels at a side than a network needs, or would have when it is made smaller.
function requireSize({ name, width, height }, smallest, most) {
  const least = Math.min(width, height);
  if (least < smallest) throw new Problem(`${name} is too small: a side needs ${smallest} pixels.`);
  const left = Math.floor(least * shareOf(width, height, most));
  if (left >= smallest) return;
  const would = `Made smaller, its short side would have ${left} pixels, and ${smallest} are needed.`;
  throw new Problem(`${name} is too long and narrow. ${would}`);
}

// What is to be said of a picture that was made smaller.
function remarkOn({ width, height }, most) {
  const share = shareOf(width, height, most);
  if (share === 1) return "";
  const longest = Math.max(width, height);
  const size = share === MOST_SIDE / longest ? `a side of ${longest} pixels` : millions(width * height);
  return `The picture has ${size} and was made smaller. `;
}

// The pixels of a picture, an image or a frame of the video, of which there are no more than that.
function read({ name, source, width, height }, most, canvas = document.createElement("canvas")) {
  const share = shareOf(width, height, most);
  canvas.width = Math.max(1, Math.floor(width * share));
  canvas.height = Math.max(1, Math.floor(height * share));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  try {
    return pen.getImageData(0, 0, canvas.width, canvas.height);
  } catch (error) {
    throw error.name === "SecurityError" ? unreadable(name) : error;
  }
}

function unreadable(name) {
  return new Problem(`${name} is not a picture that this browser can read.`);
}

function put(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Show a picture, without a painting yet.
function show(pixels) {
  put(canvases.original, pixels);
  hidePainting();
  element("result").hidden = false;
}

function hidePainting() {
  canvases.painting.width = canvases.original.width; // which empties it
  canvases.painting.height = canvases.original.height;
  canvases.painting.setAttribute("aria-label", "The painting");
  element("save").disabled = true;
}

function showPainting({ painted, width, height }) {
  canvases.painting.getContext("2d").putImageData(new ImageData(painted, width, height), 0, 0);
}

function chosen() {
  return Number(document.querySelector("#styles input:checked").value);
}

// A picture that is as large as a network takes it. Nothing is shown of it yet.
function laidOut(found, { smallest, most }) {
  requireSize(found, smallest, most);
  return found.most === most ? found : Object.assign(found, { pixels: read(found, most), most });
}

// End what is being painted, or waits to be.
function stop() {
  painting++;
  painter.stop();
  element("working").hidden = true;
}

// Have a picture painted, the one that is there or another. If the other is refused, what is being painted goes on.
async function paint(found = picture) {
  const number = chosen();
  if (painter.networks && found !== picture) laidOut(found, painter.networks[number]);
  stop();
  closeCamera();
  const mine = painting;
  element("save").disabled = true;
  element("working").hidden = false;
  element("progress").value = 0;
  say("Painting …");
  try {
    const { networks } = await painter.ready;
    if (mine !== painting) return;
    picture = laidOut(found, networks[number]);
    if (onStage !== picture.pixels) show(picture.pixels);
    onStage = picture.pixels;
    const remark = remarkOn(picture, picture.most);
    say(`${remark}Painting …`);
    const code = await codeFor(number, picture.pixels);
    if (mine !== painting) return;
    const report = (progress) => (element("progress").value = progress);
    const painted = await painter.paint(number, picture.pixels, report, code);
    if (mine !== painting) return;
    showPainting(painted);
    picture.style = styleName(number);
    canvases.painting.setAttribute("aria-label", `The painting, in the style ${picture.style}`);
    element("save").disabled = false;
    const size = `${painted.width} × ${painted.height} pixels`;
    say(`${remark}Painted ${size} in ${painted.seconds.toFixed(1)} seconds with ${painted.means}.`);
  } catch (error) {
    if (mine !== painting) return;
    hidePainting();
    throw error;
  } finally {
    if (mine === painting) element("working").hidden = true;
  }
}

async function paintAgain() {
  if (picture && !camera) await paint();
}

// Have an image painted that is loaded.
async function take(image, name) {
  await paint(pictureOf(image, name));
}

function pictureOf(image, name) {
  return { name, source: image, width: image.naturalWidth, height: image.naturalHeight };
}

// Do something with the image of a file, and its name.
async function withImage(file, action) {
  if (!file) throw new Problem("There is no picture in that.");
  const name = file.name || "The picture";
  if (file.size > MOST_BYTES) {
    throw new Problem(`${name} has more than 100 megabytes, the most that this page accepts.`);
  }
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(unreadable(name));
      image.src = address;
    });
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    if (width * height > MOST_READ) {
      throw new Problem(`${name} has ${millions(width * height)}, and this page accepts 100 million at most.`);
    }
    await action(image, name);
  } finally {
    URL.revokeObjectURL(address);
  }
}

// Do something with each image that is chosen with an input for files.
function whenChosen(input, action) {
  input.addEventListener("change", answering(async () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file) await withImage(file, action);
  }));
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

whenChosen(element("file"), take);
element("take-example").addEventListener("click", answering(() => take(element("example"), "example")));
element("camera").addEventListener("click", answering(openCamera));
element("take").addEventListener("click", answering(takeFrame));
element("close").addEventListener("click", answering(leaveCamera));
element("stop").addEventListener("click", () => {
  stop();
  hidePainting(); // which is of what was chosen before
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
document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) answering(withImage)(file, takerAt(document.activeElement));
});
