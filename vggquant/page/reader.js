// Reads a packed file of version 2 to the network that it holds, as strictly as docs/format.md asks.
// Codes are left to codes.js, and which networks there are to networks.js.

const MAX_HEADER = 2 ** 20;
const MAX_TENSORS = 256;
const MAX_ELEMENTS = 2 ** 28;
const MAX_DEPTH = 32; // of JSON; nothing that a file may hold is as deep
const KEY = "vggquant";
const BLOBS = { codes: 1, codebooks: 4, scales: 4, plain: 4 }; // tensors of a file, and the bytes of an element

// A number that is written with a fraction or an exponent; others are counts.
class Fraction {
  constructor(value) {
    this.value = value;
  }
}

// Read a packed file: { network, tensors, attribution, changes }, of which the tensors are float32 by name.
function readNetwork(bytes) {
  const { metadata, blobs, outer } = openFile(bytes);
  requireKeys(metadata, METADATA, KEY);
  checkCredits(metadata);
  const network = networkOf(metadata.get("network"));
  const entries = checkEntries(network, metadata);
  const parts = cutBlobs(network, entries, metadata.get("codebooks"), blobs);
  if (outer.size !== 2 || outer.get("format") !== "pt" || outer.get(KEY) !== canonical(metadata)) {
    refuse("canonical metadata", "another form");
  }
  const found = checksum(...Object.keys(BLOBS).map((name) => blobs.get(name) ?? new Uint8Array(0)));
  const expected = metadata.get("data_crc32");
  if (found !== expected) refuse(`checksum ${expected}`, found);
  const tensors = restore(network, entries, parts);
  return { network, tensors, attribution: metadata.get("attribution"), changes: metadata.get("changes") };
}

const METADATA = [
  ...["attribution", "changes", "codebooks", "data_crc32", "format_version", "header_crc32", "network"],
  ...["provenance", "weights"],
];

// The outer form: a safetensors file. Bytes of its tensors by name, and the metadata, whose seal is checked.
function openFile(bytes) {
  if (bytes.length < 8) refuse("a packed file", `${bytes.length} bytes`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length < 2 || length > Math.min(MAX_HEADER, bytes.length - 8) || bytes[8] !== 0x7b) {
    refuse("a packed file", "something else");
  }
  const header = bytes.subarray(0, 8 + length);
  const entries = parseJson(decodeText(header.subarray(8)));
  const outer = entries.get("__metadata__");
  entries.delete("__metadata__");
  if (!(outer instanceof Map) || typeof outer.get(KEY) !== "string") refuse("a packed file", "another one");
  const metadata = parseJson(outer.get(KEY));
  if (!(metadata instanceof Map)) refuse("an object", "something else", KEY);
  const version = metadata.get("format_version");
  if (version !== 2) refuse("format version 2", version === 1 ? "1, which holds a VGG" : shown(version));
  checkSeal(header);
  return { metadata, blobs: cutFile(entries, bytes.subarray(8 + length)), outer };
}

function cutFile(entries, body) {
  const blobs = new Map();
  const found = [...entries].map(([name, entry]) => {
    const size = BLOBS[Object.hasOwn(BLOBS, name) ? name : ""];
    if (!size) refuse("only tensors of version 2", "one more", name);
    requireKeys(entry, ["data_offsets", "dtype", "shape"], name);
    const [shape, offsets] = [entry.get("shape"), entry.get("data_offsets")];
    if (entry.get("dtype") !== (size === 1 ? "U8" : "F32")) refuse("U8 codes and F32 numbers", "others", name);
    if (!isCounts(shape) || shape.length !== 1) refuse("a shape of rank 1", "another", name);
    if (!isCounts(offsets) || offsets.length !== 2) refuse("two offsets", "others", name);
    if (offsets[1] - offsets[0] !== shape[0] * size) refuse(`${shape[0] * size} bytes`, "others", name);
    return { name, begin: offsets[0], end: offsets[1] };
  });
  found.sort((one, other) => one.begin - other.begin || one.end - other.end);
  let covered = 0;
  for (const { name, begin, end } of found) {
    if (begin !== covered || end > body.length || begin === end) refuse("data without holes", "others", name);
    blobs.set(name, body.subarray(begin, end));
    covered = end;
  }
  if (covered !== body.length) refuse(`${covered} bytes of tensors`, body.length);
  return blobs;
}

function checkSeal(header) {
  const text = Array.from(header, (byte) => String.fromCharCode(byte)).join("");
  const seals = [...text.matchAll(/\\"header_crc32\\":\\"([0-9a-f]{8})\\"/g)];
  if (seals.length !== 1) refuse("one header checksum", seals.length);
  const unsealed = header.slice();
  const at = seals[0].index + seals[0][0].indexOf(seals[0][1]);
  unsealed.fill(0x30, at, at + 8);
  const found = checksum(unsealed);
  if (found !== seals[0][1]) refuse(`header checksum ${seals[0][1]}`, found);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

// CRC-32 of some bytes, one part after the other.
function checksum(...parts) {
  let crc = 0xffffffff;
  for (const part of parts) for (const byte of part) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255];
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

function isCount(value, below = 2 ** 53) {
  return Number.isInteger(value) && value >= 0 && value < below;
}

function isCounts(value) {
  return Array.isArray(value) && value.every((each) => isCount(each));
}

function isText(value) {
  return typeof value === "string" && !value.includes("\0");
}

function shown(value) {
  return typeof value === "string" || typeof value === "number" ? value : "something else";
}

function requireKeys(object, keys, where) {
  const same = object instanceof Map && object.size === keys.length && keys.every((key) => object.has(key));
  if (!same) refuse(keys.join(", "), "other fields", where);
}

function checkCredits(metadata) {
  const isHex = (value, digits) => typeof value === "string" && RegExp(`^[0-9a-f]{${digits}}$`).test(value);
  for (const key of ["attribution", "changes"]) {
    if (metadata.get(key) !== null && !isText(metadata.get(key))) refuse("a text or null", "something else", key);
  }
  if (!isHex(metadata.get("data_crc32"), 8)) refuse("8 hexadecimal digits", "others", "data_crc32");
  const provenance = metadata.get("provenance");
  requireKeys(provenance, ["layout", "sha256"], "provenance");
  if (!isText(provenance.get("layout")) || !isHex(provenance.get("sha256"), 64)) {
    refuse("layout and sha256", "others", "provenance");
  }
}

// The network that a record describes, and within the bounds that a network has.
function networkOf(record) {
  requireKeys(record, ["configuration", "family"], "network");
  const family = record.get("family");
  const known = typeof family === "string" && Object.hasOwn(FAMILIES, family);
  if (!known) refuse(`one of ${Object.keys(FAMILIES).join(", ")}`, shown(family), "family");
  const network = FAMILIES[family](record.get("configuration"));
  const elements = network.tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (network.tensors.length > MAX_TENSORS || elements > MAX_ELEMENTS) refuse("a smaller network", "this one");
  return network;
}

function sizeOf(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

// What the metadata say of each palettized weight, in the order of the network.
function checkEntries(network, metadata) {
  const [weights, sizes] = [metadata.get("weights"), metadata.get("codebooks")];
  if (!isCounts(sizes) || !sizes.every((size) => size > 0 && size <= 256)) refuse("sizes of codebooks", "others");
  if (!(weights instanceof Map)) refuse("weights", "something else");
  const entries = new Map();
  for (const { name, shape, weight } of network.tensors) {
    if (weight && weights.has(name)) entries.set(name, checkEntry(name, shape, weights.get(name), sizes));
  }
  if (entries.size < weights.size) refuse("weights of the network", "others");
  const firsts = [...new Set([...entries.values()].map((entry) => entry.codebook))];
  if (firsts.length !== sizes.length || firsts.some((number, place) => number !== place)) {
    refuse("codebooks in the order of their use", firsts.join(", "));
  }
  return entries;
}

function checkEntry(name, shape, fields, sizes) {
  if (!(fields instanceof Map)) refuse("an entry", "something else", name);
  const has = (key) => fields.has(key);
  const keys = ["bits", "codebook", ...(has("codes_per_byte") ? ["bytes", "codes_per_byte"] : [])];
  const optional = has("codes_per_byte") ? ["centre", "scaled", "sqnr_db"] : ["scaled", "sqnr_db"];
  requireKeys(fields, [...keys, ...optional.filter(has)], name);
  const [bits, codebook, sharing, centre] = ["bits", "codebook", "codes_per_byte", "centre"].map((k) => fields.get(k));
  if (!isCount(bits, 9) || bits === 0) refuse("1 to 8 bits", shown(bits), name);
  if (!isCount(codebook, sizes.length)) refuse("the number of a codebook", shown(codebook), name);
  if (sizes[codebook] > 1 << bits) refuse(`a codebook of at most ${1 << bits}`, sizes[codebook], name);
  if (has("scaled") && fields.get("scaled") !== true) refuse("true", "something else", `${name}: scaled`);
  const sqnr = fields.get("sqnr_db");
  if (has("sqnr_db") && !(sqnr instanceof Fraction && Number.isFinite(sqnr.value))) refuse("a number", "another", name);
  const count = sizeOf(shape);
  let bytes = planesSize(count, bits);
  if (has("codes_per_byte")) {
    const levels = has("centre") ? sharing : [sharing];
    const fits = (m) => SHARINGS.includes(m) && (has("centre") || m * bits <= 8);
    if (!Array.isArray(levels) || levels.length < 1 || levels.length > 4 || !levels.every(fits)) {
      refuse("numbers of codes in a byte", "others", name);
    }
    if (has("centre") && !isCount(centre, 1 << bits)) refuse(`a centre below ${1 << bits}`, shown(centre), name);
    const least = Math.ceil(Math.ceil(count / levels[0]) / 8); // a symbol takes a bit or more
    const length = fields.get("bytes");
    if (!isCount(length, bytes) || length < least) refuse("the length of a stream", "another", name);
    bytes = length;
  }
  return { bits, codebook, sharing, centre, bytes, scaled: has("scaled") };
}

// Cut the tensors of the file into those of the network: streams, codebooks, scales and plain numbers.
function cutBlobs(network, entries, codebooks, blobs) {
  const sizes = { codes: [], codebooks, scales: [], plain: [] };
  for (const { name, shape } of network.tensors) {
    const entry = entries.get(name);
    if (entry) sizes.codes.push(entry.bytes);
    if (entry?.scaled) sizes.scales.push(shape[0]);
    if (!entry) sizes.plain.push(sizeOf(shape));
  }
  const parts = {};
  for (const [blob, size] of Object.entries(BLOBS)) {
    const bytes = blobs.get(blob) ?? new Uint8Array(0);
    const total = sizes[blob].reduce((sum, each) => sum + each, 0);
    if (bytes.length !== total * size) refuse(`${total} elements`, bytes.length / size, blob);
    const array = size === 1 ? bytes : new Float32Array(bytes.slice().buffer);
    let begin = 0;
    parts[blob] = sizes[blob].map((each) => array.subarray(begin, (begin += each)));
  }
  return parts;
}

// The tensors of a network, each checked and in float32.
function restore(network, entries, parts) {
  parts.codebooks.forEach((codebook) => {
    requireFinite(codebook, "codebooks");
    const ascending = codebook.every((value, i) => i === 0 || value > codebook[i - 1]);
    if (!ascending) refuse("ascending centroids", "another order");
  });
  const used = parts.codebooks.map((codebook) => new Uint8Array(codebook.length));
  const tensors = new Map();
  const next = { codes: 0, scales: 0, plain: 0 };
  for (const { name, shape } of network.tensors) {
    const entry = entries.get(name);
    if (!entry) {
      tensors.set(name, requireFinite(parts.plain[next.plain++], name));
      continue;
    }
    const codebook = parts.codebooks[entry.codebook];
    const scale = entry.scaled ? parts.scales[next.scales++] : undefined;
    const codes = decodeCodes(parts.codes[next.codes++], sizeOf(shape), entry);
    for (const code of codes) {
      if (code >= codebook.length) refuse(`codes below ${codebook.length}, the codebook's size`, code, name);
      used[entry.codebook][code] = 1;
    }
    tensors.set(name, lookUp(codes, codebook, scale, name));
  }
  if (used.some((uses) => uses.includes(0))) refuse("every centroid used", "unused ones");
  return tensors;
}

function lookUp(codes, codebook, scale, name) {
  const weights = Float32Array.from(codes, (code) => codebook[code]);
  if (scale === undefined) return weights;
  requireFinite(scale, name);
  const largest = (values) => values.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  const most = Math.fround(largest(codebook) * largest(scale));
  if (!Number.isFinite(most)) refuse("weights within float32", "larger", name);
  const each = weights.length / scale.length;
  return weights.map((weight, i) => weight * scale[Math.floor(i / each)]);
}

function requireFinite(values, name) {
  if (!values.every(Number.isFinite)) refuse("finite values", "NaN or infinity", name);
  return values;
}
