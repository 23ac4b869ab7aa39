// The camera: opens and closes it, has it painted live, and takes a picture with it.
// Painting a picture that was taken, and all that is shown, is left to page.js.

const LIVE = { least: 12_000, most: 300_000, wanted: 0.2, slowest: 0.7 }; // pixels, and seconds for a picture
const REFUSALS = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings for this page, or choose a picture.",
  NotFoundError: "No camera was found. Choose a picture instead.",
  NotReadableError: "The camera is in use by another program.",
};
const UNUSABLE = "The camera cannot be used. Choose a picture instead.";

let camera; // the stream of the camera while it is open
let opening; // a symbol while one is being opened

async function openCamera() {
  if (opening || camera?.active) return; // as at a double click
  if (!navigator.mediaDevices) {
    throw new Problem("This browser does not allow a page opened this way to use the camera.");
  }
  const mine = (opening = Symbol("opening"));
  const video = element("video");
  let stream;
  try {
    const wanted = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    if (opening !== mine) return end(stream); // since something else was chosen
    end(camera);
    camera = video.srcObject = stream;
    await video.play().catch(() => {
      throw new Problem(UNUSABLE);
    });
  } catch (error) {
    if (opening !== mine) return;
    closeCamera();
    throw new Problem(REFUSALS[error.name] ?? UNUSABLE);
  } finally {
    if (opening === mine) opening = undefined;
  }
  if (camera !== stream) return;
  stop();
  for (const id of ["take", "close"]) element(id).hidden = false;
  element("stage").classList.add("live");
  say("The camera is open.");
  await paintLive(stream, video);
}

function frameOf(video) {
  return { name: "camera", source: video, width: video.videoWidth, height: video.videoHeight };
}

// Paint frame after frame, as large as is fast enough.
async function paintLive(stream, video) {
  const canvas = document.createElement("canvas");
  let area = LIVE.least;
  for (let first = true; camera === stream; first = false) {
    const began = performance.now();
    const [number, taken] = [chosen(), read(frameOf(video), area, canvas)];
    const found = await painter.paint(number, taken, undefined, await codeFor(number, taken));
    if (camera !== stream) return;
    showFrame(taken);
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
  const canvas = document.createElement("canvas");
  while (camera === stream) {
    showFrame(read(frameOf(video), LIVE.most, canvas));
    await new Promise(requestAnimationFrame);
  }
}

function showFrame(pixels) {
  show(pixels);
  onStage = undefined;
}

async function takeFrame() {
  const frame = frameOf(element("video"));
  const canvas = document.createElement("canvas");
  read(frame, MOST_READ, canvas);
  await paint({ ...frame, source: canvas });
}

function closeCamera() {
  opening = undefined;
  end(camera);
  camera = undefined;
  element("stage").classList.remove("live");
  for (const id of ["take", "close"]) element(id).hidden = true;
}

function end(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

// Close the camera, and go back to the picture before it.
async function leaveCamera() {
  stop();
  closeCamera();
  say("");
  element("result").hidden = !picture;
  await paintAgain();
}
