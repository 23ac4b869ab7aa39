// Paints pictures in a worker: answers each message with progress and with the painting, with the numbers that a style
// is, or with what is wrong.
// Reading networks is left to reader.js, computing to webgl.js and plain.js, and all that is seen to page.js.

let networks = [];
let road = ""; // "webgl" or "plain" if one of them is wanted, else what is faster
let graphics; // undefined until it is needed, null where there is none

self.onmessage = ({ data: message }) => {
  const answer = (found, moved = []) => self.postMessage({ job: message.job, ...found }, moved);
  try {
    if (message.files) open(message, answer);
    else if (message.style) look(message, answer);
    else paint(message, answer);
  } catch (error) {
    answer({ failed: error instanceof RangeError ? "memory" : String(error.message), network: error.network });
  }
};

function open(message, answer) {
  road = message.road;
  networks = message.files.map(({ name, bytes }) => {
    try {
      return readNetwork(bytes);
    } catch (error) {
      throw Object.assign(error, { network: name });
    }
  });
  const facts = networks.map(({ network: { smallest, most }, attribution, changes }) => {
    return { smallest, most, attribution, changes };
  });
  answer({ networks: facts });
}

// Tell which numbers a style picture is to a network.
function look({ number, style: { data, height, width } }, answer) {
  const { network, tensors } = networks[number];
  const picture = colorsOf({ data: overWhite(data), height, width }, network.enters);
  answer({ code: predict(network, tensors, picture) });
}

function paint({ number, data, height, width, code }, answer) {
  const began = performance.now();
  const { network, tensors: own } = networks[number];
  const tensors = code ? steered(network, own, code) : own;
  const picture = { data: overWhite(data), height, width };
  const report = (progress) => answer({ progress });
  let painted = road === "plain" ? undefined : paintWithGraphics(network, tensors, picture, report);
  const means = painted ? "WebGL" : "plain JavaScript";
  painted ??= paintPlainly(network, tensors, picture, report);
  withTransparency(painted, data);
  const seconds = (performance.now() - began) / 1000;
  answer({ painted, height, width, means, seconds }, [painted.buffer]);
}

// The painting, or undefined where this browser's WebGL cannot do it.
function paintWithGraphics(network, tensors, picture, report) {
  if (graphics === null) return undefined;
  try {
    graphics ??= new Graphics(road !== "webgl");
    return graphics.compute(network, tensors, picture, report);
  } catch (error) {
    const unsupported = error instanceof Unsupported || graphics?.gl.isContextLost(); // when any call may fail
    graphics?.end();
    graphics = null; // for good, since what failed once may take the whole browser along
    if (unsupported) return undefined;
    throw error;
  }
}

function paintPlainly(network, tensors, picture, report) {
  const [gain, offset] = network.leaves;
  const result = computePlainly(network, tensors, colorsOf(picture, network.enters), report).data;
  const painted = new Uint8ClampedArray(picture.data.length);
  for (let i = 0; i < result.length; i++) {
    painted[Math.floor(i / 3) * 4 + (i % 3)] = 255 * (gain * result[i] + offset); // rounds, and stays within 0 to 255
  }
  return painted;
}

// RGBA bytes as three numbers for each pixel.
function colorsOf({ data, height, width }, [factor, summand]) {
  const colors = new Float32Array(height * width * 3);
  for (let i = 0; i < colors.length; i++) colors[i] = (factor * data[Math.floor(i / 3) * 4 + (i % 3)]) / 255 + summand;
  return { data: colors, height, width, channels: 3 };
}

// RGBA bytes with what is transparent over white, as painters see it.
function overWhite(data) {
  return data.map((value, i) => value + (255 - value) * (1 - data[i | 3] / 255));
}

// Make a painting as transparent as its picture: no longer over white.
function withTransparency(painted, data) {
  for (let i = 0; i < painted.length; i += 4) {
    const alpha = data[i + 3] / 255;
    for (let c = 0; c < 3 && alpha > 0 && alpha < 1; c++) painted[i + c] = 255 + (painted[i + c] - 255) / alpha;
    painted[i + 3] = data[i + 3];
  }
}
