// Describes networks that paint in any style, and steers them with the 100 numbers that a style picture is.
// Computing layers is left to plain.js and webgl.js, pictures and messages to painter.js.

FAMILIES.arbitrary = arbitrary;

const CODE = 100; // numbers that a style is
const STYLE_SIDE = 256; // pixels of a side of what the predictor looks at
const STEERED = [1, 2, 3, 4, 5].flatMap((block) => [`block${block}_1`, `block${block}_2`]).concat("up1", "up2", "out");
// Stages of the predictor: units, the stride of the first of them, how many times as many channels it has within.
const STAGES = [[1, 1, 1], [2, 2, 6], [3, 2, 6], [4, 2, 6], [3, 1, 6], [3, 2, 6], [1, 1, 6]];

// A network of vggquant/networks/arbitrary.py and vggquant/models/arbitrary.py. It has in addition `predictor`, the
// layers up to the mean of which a style's numbers are computed. The gain and the shift of a steered layer are no
// tensors of the file: they are computed of these numbers.
function arbitrary(configuration) {
  requireKeys(configuration, ["border", "filters", "predictor", "separable"], "configuration");
  const [border, filters, channels, separable] = ["border", "filters", "predictor", "separable"].map((key) =>
    configuration.get(key),
  );
  const areWidths = (found, count, most) =>
    Array.isArray(found) && found.length === count && found.every((width) => isCount(width, most + 1) && width > 0);
  if (border !== "reflect" && border !== "zeros") refuse("reflect or zeros", shown(border), "border");
  if (!areWidths(filters, 3, 1024)) refuse("three filters", "others");
  if (!areWidths(channels, STAGES.length + 2, 2048)) refuse("nine channels", "others", "predictor");
  if (!Array.isArray(separable)) refuse("names of layers", shown(separable), "separable");
  const inOrder = STEERED.filter((name) => separable.includes(name));
  if (inOrder.length !== separable.length || inOrder.some((name, i) => name !== separable[i])) {
    refuse("names of layers in their order", "others", "separable");
  }
  const layers = transferLayers(filters, border, separable);
  const predictor = predictorLayers(channels);
  const code = affineTensors("predictor.code", [CODE, channels.at(-1), 1, 1]);
  const tensors = [...predictor.flatMap(tensorsOf), ...code, ...layers.flatMap(tensorsOf)];
  return { tensors, layers, predictor, enters: [1, 0], leaves: [1, 0], smallest: 16, most: 2 ** 20 };
}

function transferLayers([first, second, third], border, separable) {
  const layers = [];
  const add = (name, inputs, outputs, more) => {
    const path = `transfer.${name}`;
    const all = { border, weight: `${path}.convolution.weight`, gain: undefined, shift: undefined, ...more };
    if (STEERED.includes(name)) Object.assign(all, { gain: `${path}.gain`, shift: `${path}.shift` });
    else all.shift = `${path}.convolution.bias`;
    if (separable.includes(name)) {
      const alone = { ...all, weight: `${path}.depthwise.weight`, gain: undefined, shift: undefined, added: undefined };
      layers.push(layerOf(name, inputs, inputs, { ...alone, depthwise: true, activation: "none" }));
      Object.assign(all, { weight: `${path}.pointwise.weight`, kernel: 1, doubling: 1, cropped: false });
    }
    layers.push(layerOf(name, inputs, outputs, all));
  };
  add("down1", 3, first, { kernel: 9 });
  add("down2", first, second, { stride: 2 });
  add("down3", second, third, { stride: 2 });
  for (let block = 1; block <= 5; block++) {
    const added = layers.length - 1;
    add(`block${block}_1`, third, third);
    add(`block${block}_2`, third, third, { activation: "none", added });
  }
  add("up1", third, second, { doubling: 2 });
  add("up2", second, first, { doubling: 2 });
  add("out", first, 3, { kernel: 9, activation: "sigmoid", cropped: true });
  return layers;
}

// A MobileNetV2 whose last convolution is left out.
function predictorLayers(channels) {
  const layers = [];
  const add = (name, inputs, outputs, more) => {
    const parts = { weight: `predictor.${name}.weight`, gain: undefined, shift: `predictor.${name}.bias` };
    layers.push(layerOf(name, inputs, outputs, { kernel: 1, border: "zeros", activation: "relu6", ...parts, ...more }));
  };
  add("first", 3, channels[0], { kernel: 3, stride: 2 });
  let [unit, inputs] = [0, channels[0]];
  STAGES.forEach(([count, stride, times], stage) => {
    const outputs = channels[stage + 1];
    for (let number = 0; number < count; number++) {
      const [name, step, before] = [`unit${++unit}`, number ? 1 : stride, layers.length - 1];
      const within = times * inputs;
      if (times > 1) add(`${name}.expand`, inputs, within);
      add(`${name}.depthwise`, within, within, { kernel: 3, stride: step, depthwise: true });
      const added = step === 1 && inputs === outputs ? before : undefined;
      add(`${name}.project`, within, outputs, { activation: "none", added });
      inputs = outputs;
    }
  });
  add("last", inputs, channels.at(-1));
  return layers;
}

// The tensors of a file that a layer needs.
function tensorsOf({ weight, gain, shift, kernel, inputs, outputs, depthwise }) {
  const convolution = { name: weight, shape: [outputs, depthwise ? 1 : inputs, kernel, kernel], weight: true };
  if (gain) return [convolution, ...[gain, shift].flatMap((name) => affineTensors(name, [outputs, CODE]))];
  return shift ? [convolution, { name: shift, shape: [outputs] }] : [convolution];
}

function affineTensors(name, shape) {
  return [
    { name: `${name}.weight`, shape, weight: true },
    { name: `${name}.bias`, shape: [shape[0]] },
  ];
}

// What the tensors of that name make of some numbers.
function affine(tensors, name, numbers) {
  const weight = tensors.get(`${name}.weight`);
  return Float64Array.from(tensors.get(`${name}.bias`), (bias, output) => {
    return numbers.reduce((sum, value, input) => sum + value * weight[output * numbers.length + input], bias);
  });
}

// The tensors with the gains and shifts that a style's numbers make.
function steered({ layers }, tensors, code) {
  const found = new Map(tensors);
  for (const { gain, shift } of layers) {
    if (gain) for (const name of [gain, shift]) found.set(name, affine(tensors, name, code));
  }
  return found;
}

// The numbers that a picture of three channels, of colours from 0 to 1, is to a network.
function predict({ predictor }, tensors, picture) {
  const { data, channels } = computePlainly({ layers: predictor }, tensors, shrunk(picture, STYLE_SIDE), () => {});
  return affine(tensors, "predictor.code", statistics(data, channels).means);
}

// A picture as a square of some pixels, each a mean of what lies around it with weights that fall off evenly.
function shrunk({ data, height, width, channels }, side) {
  const rows = resampled(data, { before: 1, count: height, behind: width * channels }, side);
  const both = resampled(rows, { before: side, count: width, behind: channels }, side);
  return { data: both, height: side, width: side, channels };
}

// Numbers with another count along one of their axes, of which others lie before and behind.
function resampled(data, { before, count, behind }, side) {
  const scale = count / side;
  const reach = Math.max(scale, 1);
  const result = new Float32Array(before * side * behind);
  for (let place = 0; place < side; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(count, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, i) => 1 - Math.abs(first + i + 0.5 - centre) / reach);
    const total = weights.reduce((sum, weight) => sum + Math.max(0, weight), 0);
    for (let outer = 0; outer < before; outer++) {
      const to = (outer * side + place) * behind;
      weights.forEach((weight, i) => {
        const from = (outer * count + first + i) * behind;
        const share = Math.max(0, weight) / total;
        for (let inner = 0; inner < behind; inner++) result[to + inner] += share * data[from + inner];
      });
    }
  }
  return result;
}
