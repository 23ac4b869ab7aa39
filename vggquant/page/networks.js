// Describes networks that paint, by family: their tensors, and the layers to compute, one after the other.
// Reading their numbers is left to reader.js, computing to plain.js and webgl.js, and a further family to arbitrary.js.
//
// A network has `tensors` in the order of the file, what `enters` the first layer and `leaves` the last one (a factor
// and a summand for colours from 0 to 1), the `smallest` side of a picture, the `most` pixels that are painted, so that
// results find room in memory, and `layers`. Of a layer:
//
//   kernel, stride, inputs, outputs   as everywhere
//   depthwise     whether each channel is convolved alone
//   border        "reflect" or "zeros"
//   doubling      2 where each pixel is repeated to 2 × 2 before, else 1
//   cropped       whether what it takes is cut to the picture's size before
//   weight        the name of its tensor
//   gain, shift   names of the tensors of its instance normalisation; without a gain the shift is a bias
//   activation    "none", "relu", "relu6", "tanh" or "sigmoid"
//   added         the number of the layer whose result is added, or undefined

const REACH = 150 / 127.5; // of the colours, so that black and white are reached where tanh still has a slope

const FAMILIES = { johnson };

// A network of Johnson et al. (vggquant/networks/johnson.py and vggquant/models/johnson.py).
function johnson(configuration) {
  requireKeys(configuration, ["blocks", "filters"], "configuration");
  const [blocks, filters] = [configuration.get("blocks"), configuration.get("filters")];
  const isWidth = (filter) => isCount(filter, 1025) && filter > 0;
  if (!isCount(blocks, 33)) refuse("0 to 32 blocks", shown(blocks));
  if (!Array.isArray(filters) || filters.length !== 3 || !filters.every(isWidth)) refuse("three filters", "others");
  const [first, second, third] = filters;
  const layers = [
    layerOf("down1", 3, first, { kernel: 9 }),
    layerOf("down2", first, second, { stride: 2 }),
    layerOf("down3", second, third, { stride: 2 }),
  ];
  for (let block = 1; block <= blocks; block++) {
    const added = layers.length - 1;
    layers.push(layerOf(`block${block}_1`, third, third));
    layers.push(layerOf(`block${block}_2`, third, third, { activation: "none", added }));
  }
  layers.push(layerOf("up1", third, second, { doubling: 2 }));
  layers.push(layerOf("up2", second, first, { doubling: 2 }));
  layers.push(layerOf("out", first, 3, { kernel: 9, activation: "tanh", cropped: true }));
  const tensors = layers.flatMap(({ weight, gain, shift, kernel, inputs, outputs }) => [
    { name: weight, shape: [outputs, inputs, kernel, kernel], weight: true },
    { name: gain, shape: [outputs] },
    { name: shift, shape: [outputs] },
  ]);
  return { tensors, layers, enters: [2, -1], leaves: [REACH / 2, 0.5], smallest: 8, most: 2 ** 22 };
}

function layerOf(name, inputs, outputs, more = {}) {
  const usual = { kernel: 3, stride: 1, doubling: 1, border: "reflect", activation: "relu", depthwise: false };
  const parts = { weight: `${name}.weight`, gain: `${name}.gain`, shift: `${name}.shift` };
  return { name, inputs, outputs, ...usual, ...parts, cropped: false, added: undefined, ...more };
}

// The height and width that a layer convolves, and that of its result.
function sizesOf(layer, height, width, picture) {
  const [tall, wide] = layer.cropped ? picture : [height * layer.doubling, width * layer.doubling];
  const out = (side) => Math.floor((side - 1) / layer.stride) + 1;
  return { tall, wide, height: out(tall), width: out(wide) };
}

// How much work each layer is, as a share of all of it, from the first to the last.
function sharesOf(layers, height, width) {
  const picture = [height, width];
  const work = layers.map((layer) => {
    ({ height, width } = sizesOf(layer, height, width, picture));
    return height * width * layer.outputs * layer.kernel ** 2 * (layer.depthwise ? 1 : layer.inputs);
  });
  const total = work.reduce((sum, each) => sum + each, 0);
  return work.map((each) => each / total);
}

const EPSILON = 1e-5; // added to variances, so that a flat channel is not divided by zero

// Factors and summands of each channel that an instance normalisation comes to.
function normalising({ means, variances }, gain, shift) {
  const scales = Float64Array.from(gain, (value, c) => value / Math.sqrt(variances[c] + EPSILON));
  return { scales, shifts: Float64Array.from(shift, (value, c) => value - means[c] * scales[c]) };
}

// Likewise of a bias, or of nothing.
function biasing(shift, channels) {
  return { scales: new Float64Array(channels).fill(1), shifts: Float64Array.from(shift ?? new Float64Array(channels)) };
}
