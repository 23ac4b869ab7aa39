// Paints pictures in a worker: answers each message with progress and with the painting, or with what is wrong.
// Reading networks is left to reader.js, computing to webgl.js and plain.js, and all that is seen to page.js.

let networks = [];
let road = ""; // "webgl" or "plain" if one of them is wanted, else what is faster
let graphics; // undefined until it is needed, null where there is none

self.onmessage = ({ data: message }) => {
  try {
    if (message.files) open(message);
    else paint(message);
  } catch (error) {
    self.postMessage({ failed: error instanceof RangeError ? "memory" : String(error.message) });
  }
};

function open(message) {
  road = message.road;
  networks = message.files.map(({ name, bytes }) => {
    try {
      return readNetwork(bytes);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
  });
  const credits = networks.map(({ attribution, changes }) => ({ attribution, changes }));
  self.postMessage({ credits, smallest: Math.max(...networks.map(({ network }) => network.smallest)) });
}

function paint({ number, data, height, width }) {
  const began = performance.now();
  const { network, tensors } = networks[number];
  const picture = { data: overWhite(data), height, width };
  const report = (progress) => self.postMessage({ progress });
  let painted = road === "plain" ? undefined : paintWithGraphics(network, tensors, picture, report);
  const means = painted ? "WebGL" : "plain JavaScript";
  painted ??= paintPlainly(network, tensors, picture, report);
  withTransparency(painted, data);
  const seconds = (performance.now() - began) / 1000;
  self.postMessage({ painted, height, width, means, seconds }, [painted.buffer]);
}

// The painting, or undefined where this browser's WebGL cannot do it.
function paintWithGraphics(network, tensors, picture, report) {
  if (graphics === null) return undefined;
  try {
    graphics ??= new Graphics(road !== "webgl");
    return graphics.compute(network, tensors, picture, report);
  } catch (error) {
    graphics = null; // for good, since what failed once may take the whole browser along
    return undefined;
  }
}

function paintPlainly(network, tensors, { data, height, width }, report) {
  const [[factor, summand], [gain, offset]] = [network.enters, network.leaves];
  const colors = new Float32Array(height * width * 3);
  for (let i = 0; i < colors.length; i++) colors[i] = (factor * data[Math.floor(i / 3) * 4 + (i % 3)]) / 255 + summand;
  const result = computePlainly(network, tensors, { data: colors, height, width, channels: 3 }, report).data;
  const painted = new Uint8ClampedArray(height * width * 4);
  for (let i = 0; i < result.length; i++) {
    painted[Math.floor(i / 3) * 4 + (i % 3)] = 255 * (gain * result[i] + offset); // rounds, and stays within 0 to 255
  }
  return painted;
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
