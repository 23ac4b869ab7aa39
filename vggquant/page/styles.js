// The styles that a visitor brings along: pictures for networks that take any style, strength, and a blend of two.
// Painting, and reading pictures, is left to page.js.

const MOST_STYLE = 2 ** 20; // pixels that are kept of a style picture, of which a network sees fewer still
const RESTS = 300; // milliseconds after which a slider counts as resting

const slots = [...document.querySelectorAll(".slot")];
const styles = []; // what is in the slots: { name, pixels }
const codes = new WeakMap(); // of pixels: the code that they are to each network, by its number
let resting; // the timer of the sliders

function takesStyles(number) {
  return files[number].family === "arbitrary";
}

// A value from 0 to 1 of a slider.
function valueOf(id) {
  return Number(element(id).value) / 100;
}

// The 100 numbers that a picture is to a network, which are found once.
async function codeOf(number, pixels) {
  if (!codes.has(pixels)) codes.set(pixels, new Map());
  const found = codes.get(pixels);
  const { data, height, width } = pixels;
  if (!found.has(number)) found.set(number, (await painter.work({ number, style: { data, height, width } })).code);
  return found.get(number);
}

// The code in which a picture is to be painted: a mean of those of the styles, and of its own where these are not to
// have their full strength. There is none for a network that knows but one style.
async function codeFor(number, pixels) {
  if (!takesStyles(number)) return undefined;
  await exampleTaken;
  const [first, second] = styles;
  const [strength, blend] = [valueOf("strength"), second ? valueOf("blend") : 0];
  const parts = [[first, strength * (1 - blend)], [second, strength * blend], [{ pixels }, 1 - strength]];
  const sum = new Float64Array(100);
  for (const [part, share] of parts) {
    if (share === 0) continue;
    const code = await codeOf(number, part.pixels);
    code.forEach((value, i) => (sum[i] += share * value));
  }
  return sum;
}

// What a painting's style is called.
function styleName(number) {
  return takesStyles(number) ? styles.map(({ name }) => bare(name)).join("-") : files[number].name;
}

// Show what a network of any style needs, where the chosen one is such a network.
function showStyles() {
  element("mixture").hidden = !takesStyles(chosen());
  element("blending").hidden = element("remove").hidden = styles.length < 2;
}

// Show what a slider says, and tell screen readers.
function tellValues() {
  const tell = (id, text) => {
    element(id).setAttribute("aria-valuetext", text);
    document.querySelector(`output[for=${id}]`).textContent = text;
  };
  const [strength, blend] = [element("strength").value, element("blend").value];
  tell("strength", `${strength} % of the style`);
  tell("blend", `${100 - blend} % first, ${blend} % second`);
}

// What is done with an image that is put on an element of the page: it is a style, or else painted.
function takerAt(place) {
  const slot = slots.indexOf(place?.closest?.(".slot"));
  return slot < 0 ? take : (image, name) => takeStyle(slot, image, name);
}

async function takeStyle(slot, image, name) {
  const { networks } = await painter.ready;
  const found = pictureOf(image, name);
  requireSize(found, networks[chosen()].smallest, MOST_STYLE);
  putStyle(slot, found);
  say(`${name} is the ${["first", "second"][slot]} style.`);
  await paintAgain();
}

function putStyle(slot, found) {
  const { name } = found;
  const canvas = slots[slot].querySelector("canvas");
  styles[slot] = { name, pixels: read(found, MOST_STYLE) };
  put(canvas, styles[slot].pixels);
  canvas.hidden = false;
  canvas.setAttribute("aria-label", `Style picture ${name}`);
  showStyles();
}

async function removeStyle() {
  styles.length = 1;
  slots[1].querySelector("canvas").hidden = true;
  showStyles();
  slots[1].querySelector("input").focus(); // since the button is gone
  await paintAgain();
}

slots.forEach((slot, number) => {
  whenChosen(slot.querySelector("input"), (image, name) => takeStyle(number, image, name));
  slot.addEventListener("dragover", () => slot.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) slot.addEventListener(kind, () => slot.classList.remove("over"));
});
element("remove").addEventListener("click", answering(removeStyle));
for (const id of ["strength", "blend"]) {
  element(id).addEventListener("input", () => {
    tellValues();
    clearTimeout(resting);
    resting = setTimeout(answering(paintAgain), RESTS);
  });
}
tellValues();
showStyles();

const exampleTaken = files.some((_, number) => takesStyles(number)) && element("example-style").decode().then(() => {
  if (!styles[0]) putStyle(0, pictureOf(element("example-style"), "swirl"));
});
