// Computes the layers of a network in plain typed arrays, for browsers without WebGL 2 and for large pictures.
// What the layers are is left to networks.js, and pictures to painter.js.
//
// Numbers lie row by row, pixel by pixel, the channels of a pixel next to each other. So what a kernel sees of a row
// is one run of numbers, and is multiplied with the weights of three channels for three pixels at once: nine sums, for
// which the processor has registers.

const BLOCK = 3; // pixels, and channels, that are computed at once

const ACTIVATIONS = {
  none: (value) => value,
  relu: (value) => Math.max(value, 0),
  relu6: (value) => Math.min(Math.max(value, 0), 6),
  tanh: Math.tanh,
  sigmoid: (value) => 1 / (1 + Math.exp(-value)),
};

// What the last layer makes of a picture: { data, height, width, channels }, all numbers float32.
function computePlainly(network, tensors, picture, report) {
  const size = [picture.height, picture.width];
  const shares = sharesOf(network.layers, ...size);
  const lastUses = network.layers.reduce((uses, { added }, i) => uses.set(added, i), new Map());
  const kept = new Map(); // results that are added later
  let result = picture;
  let done = 0;
  network.layers.forEach((layer, i) => {
    const found = convolved(result, layer, tensors.get(layer.weight), size, (part) => report(done + part * shares[i]));
    finish(found, layer, tensors, kept.get(layer.added));
    done += shares[i];
    if (lastUses.get(layer.added) === i) kept.delete(layer.added);
    if (lastUses.has(i)) kept.set(i, found);
    result = found;
  });
  return result;
}

// Which row or column each place of a convolved side comes from, border and all; -1 where zeros are.
function places(side, { kernel, border, doubling }) {
  const before = kernel >> 1;
  return Int32Array.from({ length: side + 2 * before }, (_, place) => {
    let at = place - before;
    if (at < 0 || at >= side) at = border === "zeros" ? -1 : at < 0 ? -at : 2 * (side - 1) - at;
    return at < 0 ? -1 : Math.floor(at / doubling);
  });
}

// A convolution without bias.
function convolved(source, layer, weight, picture, report) {
  const { tall, wide, height, width } = sizesOf(layer, source.height, source.width, picture);
  const [rows, columns] = [places(tall, layer), places(wide, layer)];
  const result = { data: new Float32Array(height * width * layer.outputs), height, width, channels: layer.outputs };
  const length = (columns.length + BLOCK * layer.stride) * source.channels; // with room behind, for the last block
  const window = new Float64Array(layer.kernel * length); // the rows that the kernel sees, in turn
  const convolveRow = layer.depthwise ? convolveRowDepthwise : convolveRowFully;
  const arranged = layer.depthwise ? arrangedByChannel(weight, layer) : arrangedInBlocks(weight, layer);
  let filled = 0;
  for (let y = 0; y < height; y++) {
    for (; filled < y * layer.stride + layer.kernel; filled++) {
      fillRow(window, (filled % layer.kernel) * length, source, rows[filled], columns);
    }
    convolveRow(window, length, y * layer.stride, arranged, layer, result, y);
    if (y % 16 === 15) report(y / height);
  }
  return result;
}

function fillRow(window, start, { data, width, channels }, row, columns) {
  if (row < 0) {
    window.fill(0, start, start + columns.length * channels);
    return;
  }
  let to = start;
  for (let x = 0; x < columns.length; x++) {
    const from = (row * width + columns[x]) * channels;
    for (let c = 0; c < channels; c++) window[to++] = columns[x] < 0 ? 0 : data[from + c];
  }
}

// From output, input, row, column to blocks of outputs, row, column, input, output of the block.
function arrangedInBlocks(weight, { kernel, inputs, outputs }) {
  const run = kernel * inputs;
  const arranged = new Float64Array(Math.ceil(outputs / BLOCK) * BLOCK * kernel * run);
  let from = 0;
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let ky = 0; ky < kernel; ky++) {
        for (let kx = 0; kx < kernel; kx++) {
          const place = (Math.floor(o / BLOCK) * kernel + ky) * run + kx * inputs + i;
          arranged[place * BLOCK + (o % BLOCK)] = weight[from++];
        }
      }
    }
  }
  return arranged;
}

// From output, row, column to row, column, output.
function arrangedByChannel(weight, { kernel, outputs }) {
  const taps = kernel * kernel;
  return Float64Array.from(weight, (_, i) => weight[(i % outputs) * taps + Math.floor(i / outputs)]);
}

function convolveRowFully(window, length, top, weights, { kernel, stride, inputs, outputs }, result, y) {
  const run = kernel * inputs;
  const step = stride * inputs;
  const { data, width } = result;
  for (let block = 0; block * BLOCK < outputs; block++) {
    const first = block * BLOCK;
    const several = Math.min(BLOCK, outputs - first);
    for (let x = 0; x < width; x += BLOCK) {
      let a0 = 0, a1 = 0, a2 = 0, b0 = 0, b1 = 0, b2 = 0, c0 = 0, c1 = 0, c2 = 0; // pixels a to c
      let w = block * kernel * run * BLOCK;
      for (let ky = 0; ky < kernel; ky++) {
        let at = ((top + ky) % kernel) * length + x * step;
        for (const end = at + run; at < end; at++) {
          const u = window[at];
          const v = window[at + step];
          const z = window[at + 2 * step];
          const w0 = weights[w];
          const w1 = weights[w + 1];
          const w2 = weights[w + 2];
          a0 += u * w0;
          a1 += u * w1;
          a2 += u * w2;
          b0 += v * w0;
          b1 += v * w1;
          b2 += v * w2;
          c0 += z * w0;
          c1 += z * w1;
          c2 += z * w2;
          w += BLOCK;
        }
      }
      const sums = [a0, a1, a2, b0, b1, b2, c0, c1, c2];
      for (let p = 0; p < Math.min(BLOCK, width - x); p++) {
        const to = (y * width + x + p) * outputs + first;
        for (let o = 0; o < several; o++) data[to + o] = sums[p * BLOCK + o];
      }
    }
  }
}

function convolveRowDepthwise(window, length, top, weights, { kernel, stride, outputs }, result, y) {
  const { data, width } = result;
  const sums = new Float64Array(outputs);
  for (let x = 0; x < width; x++) {
    sums.fill(0);
    let w = 0;
    for (let ky = 0; ky < kernel; ky++) {
      let at = ((top + ky) % kernel) * length + x * stride * outputs;
      for (let kx = 0; kx < kernel; kx++) for (let c = 0; c < outputs; c++) sums[c] += window[at++] * weights[w++];
    }
    data.set(sums, (y * width + x) * outputs);
  }
}

// Normalisation or bias, activation, and what is added, all in place.
function finish({ data, channels }, layer, tensors, added) {
  const shift = tensors.get(layer.shift);
  const gain = tensors.get(layer.gain);
  const { scales, shifts } = gain ? normalising(statistics(data, channels), gain, shift) : biasing(shift, channels);
  const activate = ACTIVATIONS[layer.activation];
  for (let i = 0; i < data.length; ) {
    for (let c = 0; c < channels; c++, i++) {
      const value = activate(data[i] * scales[c] + shifts[c]);
      data[i] = added ? value + added.data[i] : value;
    }
  }
}

// The mean and the variance of each channel.
function statistics(data, channels) {
  const [means, variances] = [new Float64Array(channels), new Float64Array(channels)];
  const pixels = data.length / channels;
  for (let i = 0; i < data.length; ) for (let c = 0; c < channels; c++) means[c] += data[i++];
  for (let c = 0; c < channels; c++) means[c] /= pixels;
  for (let i = 0; i < data.length; ) for (let c = 0; c < channels; c++) variances[c] += (data[i++] - means[c]) ** 2;
  for (let c = 0; c < channels; c++) variances[c] /= pixels;
  return { means, variances };
}
