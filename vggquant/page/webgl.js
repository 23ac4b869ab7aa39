// Computes the layers of a network with WebGL 2, on whatever graphics processor the browser has.
// What the layers are is left to networks.js, and pictures to painter.js.
//
// A result is a texture of as many layers as its channels need, four in each, as its convolution left it. It is
// normalised and activated where it is read, for which it carries a factor and a summand for each channel. What is
// added to other results later is settled before: written as the numbers that it stands for.

const TARGETS = 4; // textures that any WebGL 2 writes at once
const BAND = 2 ** 17; // pixels that one call draws, so that no call keeps the processor for long
const IMITATED = /swiftshader|llvmpipe|softpipe|software|basic render/i; // names of graphics without a processor
const TILE = 32; // side of the squares over which sums are taken at once, so that they stay exact

const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp sampler2DArray;
vec4 activated(vec4 x, int kind) {
  if (kind == 1) return max(x, 0.0);
  if (kind == 2) return clamp(x, 0.0, 6.0);
  if (kind == 3) return tanh(clamp(x, -15.0, 15.0));
  if (kind == 4) return 1.0 / (1.0 + exp(-x));
  return x;
}
`;
const KINDS = ["none", "relu", "relu6", "tanh", "sigmoid"];

const VERTICES = `#version 300 es
void main() { // one triangle that covers everything
  gl_Position = vec4(4 * (gl_VertexID & 1) - 1, 4 * (gl_VertexID >> 1) - 1, 0, 1);
}`;

// The weights of a tap lie together: for each texture layer of the source and each one written, a matrix; or if each
// channel is convolved alone, a vector for each one written.
const convolutionShader = (layers, targets, depthwise, vectors) => `${HEAD}
uniform sampler2DArray source;
layout(std140) uniform Weights { vec4 weights[${vectors}]; };
uniform vec4 factors[${layers}], summands[${layers}];
uniform ivec2 size; // of what is convolved
uniform int kind, kernel, stride, doubling, reflects, first;
${Array.from({ length: targets }, (_, t) => `layout(location = ${t}) out vec4 to${t};`).join("\n")}
int place(int at, int side) {
  if (at < 0 || at >= side) at = reflects == 0 ? -1 : at < 0 ? -at : 2 * (side - 1) - at;
  return at < 0 ? -1 : at / doubling;
}
vec4 read(ivec2 at, int layer) {
  return activated(texelFetch(source, ivec3(at, layer), 0) * factors[layer] + summands[layer], kind);
}
vec4 product(vec4 x, int at) { return mat4(weights[at], weights[at + 1], weights[at + 2], weights[at + 3]) * x; }
void main() {
  ivec2 corner = ivec2(gl_FragCoord.xy) * stride - kernel / 2;
  ${Array.from({ length: targets }, (_, t) => `to${t} = vec4(0.0);`).join(" ")}
  for (int ky = 0; ky < kernel; ky++) {
    int y = place(corner.y + ky, size.y);
    for (int kx = 0; kx < kernel; kx++) {
      int x = place(corner.x + kx, size.x);
      if (x < 0 || y < 0) continue;
      int tap = ky * kernel + kx;
      ${(depthwise ? depthwiseTap : fullTap)(layers, targets)}
    }
  }
}`;

const fullTap = (layers, targets) => `for (int layer = 0; layer < ${layers}; layer++) {
        vec4 value = read(ivec2(x, y), layer);
        int at = (tap * ${layers} + layer) * ${4 * targets};
        ${repeated(targets, (t) => `to${t} += product(value, at + ${4 * t});`)}
      }`;
const depthwiseTap = (layers, targets) =>
  repeated(targets, (t) => `to${t} += read(ivec2(x, y), first + ${t}) * weights[tap * ${targets} + ${t}];`);

function repeated(count, text) {
  return Array.from({ length: count }, (_, i) => text(i)).join("\n        ");
}

// One texture layer as the numbers that it stands for, and what is added.
const SETTLING = `${HEAD}
uniform sampler2DArray source, other;
uniform vec4 factor, summand, otherFactor, otherSummand, leaving;
uniform int layer, kind, otherKind;
out vec4 to;
void main() {
  ivec3 at = ivec3(gl_FragCoord.xy, layer);
  to = activated(texelFetch(source, at, 0) * factor + summand, kind);
  if (otherKind >= 0) to += activated(texelFetch(other, at, 0) * otherFactor + otherSummand, otherKind);
  to = to * leaving.x + leaving.y;
}`;

// Means over tiles, and below them the sums of squared differences from these.
const STATISTICS = `${HEAD}
uniform sampler2DArray source;
uniform ivec2 size, tiles;
out vec4 to;
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  ivec3 from = ivec3((at.x % tiles.x) * ${TILE}, (at.y % tiles.y) * ${TILE}, at.x / tiles.x);
  ivec2 end = min(from.xy + ${TILE}, size);
  vec4 mean = vec4(0.0);
  for (int y = from.y; y < end.y; y++) {
    vec4 row = vec4(0.0);
    for (int x = from.x; x < end.x; x++) row += texelFetch(source, ivec3(x, y, from.z), 0);
    mean += row;
  }
  mean /= float((end.x - from.x) * (end.y - from.y));
  to = mean;
  if (at.y < tiles.y) return;
  to = vec4(0.0);
  for (int y = from.y; y < end.y; y++) {
    vec4 row = vec4(0.0);
    for (int x = from.x; x < end.x; x++) {
      vec4 difference = texelFetch(source, ivec3(x, y, from.z), 0) - mean;
      row += difference * difference;
    }
    to += row;
  }
}`;

// The weights of some texture layers that are written, in the order of convolutionShader.
function arrangedForTargets(weight, { kernel, inputs, outputs, depthwise }, layers, first, targets) {
  const taps = kernel * kernel;
  const numbers = new Float32Array(taps * targets * (depthwise ? 4 : 16 * layers));
  const each = depthwise ? 1 : inputs; // inputs of an output
  for (let output = 4 * first; output < Math.min(outputs, 4 * (first + targets)); output++) {
    const target = (output >> 2) - first;
    for (let input = 0; input < each; input++) {
      for (let tap = 0; tap < taps; tap++) {
        const matrix = (tap * layers + (input >> 2)) * targets + target;
        const vector = depthwise ? tap * targets + target : 4 * matrix + (input & 3);
        numbers[4 * vector + (output & 3)] = weight[(output * each + input) * taps + tap];
      }
    }
  }
  return numbers;
}

class Unsupported extends Error {} // this browser's WebGL cannot do it, so that the plain road is taken

// Computes networks; made anew for each worker.
class Graphics {
  // `swift`: whether to do without a WebGL that the main processor imitates, which plain.js outruns.
  constructor(swift) {
    if (!globalThis.OffscreenCanvas) throw new Unsupported("no canvas in a worker");
    const options = { antialias: false, depth: false, failIfMajorPerformanceCaveat: swift };
    this.gl = new OffscreenCanvas(1, 1).getContext("webgl2", options);
    if (!this.gl?.getExtension("EXT_color_buffer_float")) throw new Unsupported("no float textures to draw on");
    const known = this.gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = known ? this.gl.getParameter(known.UNMASKED_RENDERER_WEBGL) : "";
    if (swift && IMITATED.test(renderer)) throw new Unsupported("no graphics processor");
    this.programs = new Map();
    this.target = this.gl.createFramebuffer();
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, this.target);
    this.gl.bindBufferBase(this.gl.UNIFORM_BUFFER, 0, this.gl.createBuffer());
    this.most = Math.min(this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE), 16384);
  }

  // What the last layer makes of RGBA bytes, as RGBA bytes.
  compute(network, tensors, { data, height, width }, report) {
    if (Math.max(height, width) > this.most) throw new Unsupported("a side beyond its textures");
    const shares = sharesOf(network.layers, height, width);
    const added = new Set(network.layers.map((layer) => layer.added));
    const results = [];
    let result = this.upload(data, height, width, network.enters);
    let done = 0;
    network.layers.forEach((layer, i) => {
      const found = this.convolved(result, layer, tensors, [height, width]);
      if (!results.includes(result)) this.free(result);
      const other = results[layer.added];
      result = added.has(i) || other ? this.settled(found, other) : found;
      if (added.has(i)) results[i] = result;
      this.check();
      report((done += shares[i]));
    });
    const painted = this.settled(result, undefined, network.leaves, true);
    const bytes = new Uint8ClampedArray(height * width * 4);
    this.aim(painted, 0, 1);
    this.gl.readPixels(0, 0, width, height, this.gl.RGBA, this.gl.UNSIGNED_BYTE, bytes);
    [painted, ...results.filter(Boolean)].forEach((each) => this.free(each));
    this.check();
    return bytes;
  }

  // Give all memory back, at once.
  end() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  check() {
    const { gl } = this;
    if (gl.isContextLost() || gl.getError()) throw new Unsupported("its memory does not suffice");
  }

  texture(height, width, channels, bytes = false) {
    const { gl } = this;
    const layers = Math.ceil(channels / 4);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, bytes ? gl.RGBA8 : gl.RGBA32F, width, height, layers);
    this.nearest(gl.TEXTURE_2D_ARRAY);
    const numbers = { factors: new Float32Array(4 * layers).fill(1), summands: new Float32Array(4 * layers) };
    return { texture, height, width, channels, layers, kind: 0, ...numbers };
  }

  nearest(target) {
    const { gl } = this;
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(target, filter, gl.NEAREST);
  }

  upload(data, height, width, [factor, summand]) {
    const { gl } = this;
    const picture = this.texture(height, width, 4, true);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, width, height, 1, gl.RGBA, gl.UNSIGNED_BYTE, data);
    picture.factors.fill(factor);
    picture.summands.fill(summand);
    return picture;
  }

  free({ texture }) {
    this.gl.deleteTexture(texture);
  }

  convolved(source, layer, tensors, picture) {
    const { gl } = this;
    const { tall, wide, height, width } = sizesOf(layer, source.height, source.width, picture);
    const result = this.texture(height, width, layer.outputs);
    const most = this.mostTargets(layer, source.layers);
    for (let first = 0; first < result.layers; first += most) {
      const targets = Math.min(most, result.layers - first);
      const weights = arrangedForTargets(tensors.get(layer.weight), layer, source.layers, first, targets);
      const vectors = weights.length / 4;
      const key = `${source.layers}/${targets}/${layer.depthwise}/${vectors}`;
      const set = this.use(key, () => convolutionShader(source.layers, targets, layer.depthwise, vectors));
      this.bind(0, gl.TEXTURE_2D_ARRAY, source.texture, set("source"));
      gl.bufferData(gl.UNIFORM_BUFFER, weights, gl.DYNAMIC_DRAW);
      gl.uniform4fv(set("factors"), source.factors);
      gl.uniform4fv(set("summands"), source.summands);
      gl.uniform2i(set("size"), wide, tall);
      const { kernel, stride, doubling } = layer;
      const reflects = layer.border === "reflect" ? 1 : 0;
      const numbers = { kind: source.kind, kernel, stride, doubling, reflects, first };
      for (const [name, value] of Object.entries(numbers)) gl.uniform1i(set(name), value);
      this.aim(result, first, targets);
      this.draw(height, width);
    }
    const [gain, shift] = [tensors.get(layer.gain), tensors.get(layer.shift)];
    const found = gain ? normalising(this.statistics(result), gain, shift) : biasing(shift, layer.outputs);
    result.factors.set(found.scales);
    result.summands.set(found.shifts);
    result.kind = KINDS.indexOf(layer.activation);
    return result;
  }

  // How many texture layers are written at once, so that their weights find room.
  mostTargets({ kernel, depthwise }, layers) {
    const each = kernel * kernel * (depthwise ? 1 : 4 * layers) * 16; // bytes
    const most = Math.floor(this.gl.getParameter(this.gl.MAX_UNIFORM_BLOCK_SIZE) / each);
    if (!most) throw new Unsupported("a network too wide for it");
    return Math.min(TARGETS, most);
  }

  // The mean and the variance of each channel: of tiles by the graphics processor, of all tiles in double precision.
  statistics(source) {
    const { gl } = this;
    const { height, width, layers, channels } = source;
    const tiles = [Math.ceil(width / TILE), Math.ceil(height / TILE)];
    const sums = this.texture(2 * tiles[1], tiles[0] * layers, 4);
    const set = this.use("statistics", () => STATISTICS);
    this.bind(0, gl.TEXTURE_2D_ARRAY, source.texture, set("source"));
    gl.uniform2i(set("size"), width, height);
    gl.uniform2i(set("tiles"), ...tiles);
    this.aim(sums, 0, 1);
    this.draw(sums.height, sums.width, BAND / TILE ** 2);
    const found = new Float32Array(sums.height * sums.width * 4);
    gl.readPixels(0, 0, sums.width, sums.height, gl.RGBA, gl.FLOAT, found);
    this.free(sums);
    const [means, variances] = [new Float64Array(channels), new Float64Array(channels)];
    const pixels = height * width;
    for (let c = 0; c < channels; c++) {
      const parts = [];
      for (let y = 0; y < tiles[1]; y++) {
        for (let x = 0; x < tiles[0]; x++) {
          const at = ((y * layers + (c >> 2)) * tiles[0] + x) * 4 + (c & 3);
          const count = Math.min(TILE, height - y * TILE) * Math.min(TILE, width - x * TILE);
          parts.push({ mean: found[at], squares: found[at + found.length / 2], count });
        }
      }
      means[c] = parts.reduce((sum, { mean, count }) => sum + mean * count, 0) / pixels;
      const apart = ({ mean, squares, count }) => squares + count * (mean - means[c]) ** 2;
      variances[c] = parts.reduce((sum, part) => sum + apart(part), 0) / pixels;
    }
    return { means, variances };
  }

  // A result as the numbers that it stands for, with another one added, and as bytes if these are wanted.
  settled(source, other, leaving = [1, 0], bytes = false) {
    const { gl } = this;
    const result = this.texture(source.height, source.width, bytes ? 4 : source.channels, bytes);
    const set = this.use("settling", () => SETTLING);
    this.bind(0, gl.TEXTURE_2D_ARRAY, source.texture, set("source"));
    this.bind(1, gl.TEXTURE_2D_ARRAY, (other ?? source).texture, set("other"));
    gl.uniform1i(set("kind"), source.kind);
    gl.uniform1i(set("otherKind"), other ? other.kind : -1);
    gl.uniform4f(set("leaving"), ...leaving, 0, 0);
    for (let layer = 0; layer < result.layers; layer++) {
      const part = (numbers) => numbers.subarray(4 * layer, 4 * layer + 4);
      gl.uniform1i(set("layer"), layer);
      gl.uniform4fv(set("factor"), part(source.factors));
      gl.uniform4fv(set("summand"), part(source.summands));
      gl.uniform4fv(set("otherFactor"), part((other ?? source).factors));
      gl.uniform4fv(set("otherSummand"), part((other ?? source).summands));
      this.aim(result, layer, 1);
      this.draw(result.height, result.width);
    }
    this.free(source);
    return result;
  }

  // Take up a program, made once for its key; gives the places of its uniforms.
  use(key, fragments) {
    const { gl } = this;
    if (!this.programs.has(key)) this.programs.set(key, { program: this.link(fragments()), places: new Map() });
    const { program, places } = this.programs.get(key);
    gl.useProgram(program);
    return (name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name);
    };
  }

  link(fragments) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTICES], [gl.FRAGMENT_SHADER, fragments]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Unsupported("a network too wide for it");
    return program;
  }

  bind(unit, target, texture, place) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(target, texture);
    gl.uniform1i(place, unit);
  }

  // Draw on some layers of a result from now on.
  aim(result, first, count) {
    const { gl } = this;
    for (let i = 0; i < TARGETS; i++) {
      const texture = i < count ? result.texture : null;
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, texture, 0, texture && first + i);
    }
    gl.drawBuffers(Array.from({ length: count }, (_, i) => gl.COLOR_ATTACHMENT0 + i));
  }

  draw(height, width, band = BAND) {
    const { gl } = this;
    const rows = Math.max(1, Math.floor(band / width));
    gl.viewport(0, 0, width, height);
    gl.enable(gl.SCISSOR_TEST);
    for (let y = 0; y < height; y += rows) {
      gl.scissor(0, y, width, rows);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      gl.flush();
    }
  }
}
