// Reads codes back from their bytes: planes, and deflate streams, flat or nested (docs/format.md, "Codes").
// Which streams a file has, and what its codes stand for, is left to reader.js.

class Refused extends Error {} // what is wrong with a file, in one line

function refuse(expected, got, where = "") {
  throw new Refused(`${where && `${where}: `}expected ${expected}, got ${got}`);
}

const PLANES = [[], [1], [2], [2, 1], [4], [4, 1], [4, 2], [4, 2, 1], [8]]; // widths of the planes, by bits
const SHARINGS = [1, 2, 4, 8]; // how many fields can share a byte

// How many bytes so many codes take in planes.
function planesSize(count, bits) {
  return PLANES[bits].reduce((size, width) => size + Math.ceil((count * width) / 8), 0);
}

// The codes of a weight, from the bytes of its stream and its entry in the metadata, which is checked already.
function decodeCodes(stream, count, { bits, sharing, centre }) {
  const codes = room(count);
  if (sharing === undefined) {
    splitPlanes(stream, count, bits, codes);
    requirePadding(codes, count);
  } else if (centre === undefined) {
    const end = inflateFields(stream, 0, count, bits, sharing, codes);
    if (end < stream.length) refuse(`a deflate stream of ${end} bytes`, "one that runs on");
  } else {
    expand(stream, count, sharing, centre, codes);
    for (let i = 0; i < count; i++) if (codes[i] >> bits) refuse(`codes below ${1 << bits}`, codes[i]);
  }
  return codes.subarray(0, count);
}

// Room for so many codes and the padding of any plane.
function room(count) {
  return new Uint8Array(Math.ceil(count / 8) * 8);
}

function requirePadding(codes, count) {
  for (let i = count; i < codes.length; i++) if (codes[i]) refuse("zero padding", "something else");
}

function splitPlanes(stream, count, bits, codes) {
  let start = 0;
  let below = bits;
  for (const width of PLANES[bits]) {
    below -= width;
    const size = Math.ceil((count * width) / 8);
    splitFields(stream.subarray(start, start + size), width, 8 / width, codes, below);
    start += size;
  }
}

// Add fields to codes, each moved up by the bits that lie below it: byte j holds the fields j, j + S, j + 2S and so on.
function splitFields(joined, width, m, codes, below = 0) {
  const size = joined.length;
  const mask = (1 << width) - 1;
  for (let j = 0; j < size; j++) {
    if (joined[j] >> (m * width)) refuse("zero in unused bits", "something else");
    for (let k = 0; k < m; k++) codes[j + k * size] |= ((joined[j] >> (k * width)) & mask) << below;
  }
}

// Read fields from a deflate stream that begins at `start`; where it ends.
function inflateFields(stream, start, count, width, m, fields) {
  const { data, end } = inflate(stream, start, Math.ceil(count / m));
  splitFields(data, width, m, fields);
  requirePadding(fields, count);
  return end;
}

// Codes in nested form: a level holds ranks below its largest value, and of the others the rest is on the next level.
function expand(stream, count, levels, centre, codes) {
  const counts = [count];
  const fields = [codes];
  let end = 0;
  levels.forEach((m, level) => {
    const most = (1 << (8 / m)) - 1;
    end = inflateFields(stream, end, counts[level], 8 / m, m, fields[level]);
    if (level === levels.length - 1) return;
    const passed = fields[level].reduce((sum, field) => sum + (field === most), 0);
    if (!passed) refuse("no level without codes", `none on level ${level + 2} of ${levels.length}`);
    counts.push(passed);
    fields.push(room(passed));
  });
  if (end < stream.length) refuse("as many deflate streams as levels", `${stream.length - end} bytes behind them`);
  for (let level = levels.length - 2; level >= 0; level--) {
    const most = (1 << (8 / levels[level])) - 1;
    let next = 0;
    for (let i = 0; i < counts[level]; i++) {
      if (fields[level][i] !== most) continue;
      const rank = most + fields[level + 1][next++];
      if (rank > 255) refuse("ranks of at most 255", rank);
      fields[level][i] = rank;
    }
  }
  for (let i = 0; i < count; i++) codes[i] = centre + (codes[i] & 1 ? -(codes[i] + 1) / 2 : codes[i] / 2);
}

const LENGTHS = codeValues(28, 4, 3); // lengths of repeats: the smallest of each symbol, and how many bits are added
LENGTHS.least[28] = 258;
LENGTHS.bits[28] = 0;
const DISTANCES = codeValues(30, 2, 1);
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const FIXED = {
  symbols: huffmanCode(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))),
  distances: huffmanCode(Array(32).fill(5)),
};

function codeValues(count, group, least) {
  const found = { least: [], bits: [] };
  for (let symbol = 0; symbol < count; symbol++) {
    const bits = Math.max(0, Math.floor(symbol / group) - 1);
    found.least.push(least);
    found.bits.push(bits);
    least += 1 << bits;
  }
  return found;
}

// A Huffman code by the lengths of its symbols; refused where zlib refuses it.
function huffmanCode(lengths, mayBeIncomplete = true) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  let left = 1;
  for (let length = 1; length < 16; length++) {
    left = left * 2 - counts[length];
    if (left < 0) refuse("a deflate stream", "one with too many codes");
  }
  const used = lengths.length - lengths.filter((length) => length === 0).length;
  const alone = mayBeIncomplete && used === 1 && counts[1] === 1;
  if (left > 0 && used > 0 && !alone) refuse("a deflate stream", "one with too few codes");
  const offsets = new Uint16Array(16);
  for (let length = 1; length < 15; length++) offsets[length + 1] = offsets[length] + counts[length];
  const symbols = new Uint16Array(used);
  lengths.forEach((length, symbol) => {
    if (length) symbols[offsets[length]++] = symbol;
  });
  return { counts, symbols };
}

// Bits of a deflate stream, the lowest of each byte first.
class Bits {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at; // the next byte
    this.left = 0; // bits of the last one that are still to come
  }

  byte() {
    if (this.at >= this.bytes.length) refuse("a deflate stream", "one that ends early");
    return this.bytes[this.at++];
  }

  take(count) {
    let value = 0;
    for (let i = 0; i < count; i++) {
      if (!this.left) {
        this.last = this.byte();
        this.left = 8;
      }
      value |= ((this.last >> (8 - this.left)) & 1) << i;
      this.left--;
    }
    return value;
  }

  symbol({ counts, symbols }) {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length < 16; length++) {
      code |= this.take(1);
      if (code - first < counts[length]) return symbols[index + code - first];
      index += counts[length];
      first = (first + counts[length]) << 1;
      code <<= 1;
    }
    return refuse("a deflate stream", "one with an unknown code");
  }
}

// Inflate a raw deflate stream (RFC 1951) that begins at `start` to exactly `size` bytes.
function inflate(bytes, start, size) {
  const bits = new Bits(bytes, start);
  const data = new Uint8Array(size);
  let at = 0;
  const put = (value) => {
    if (at >= size) refuse(`a deflate stream of ${size} bytes`, "one that runs on");
    data[at++] = value;
  };
  let last;
  do {
    last = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) copyStored(bits, put);
    else if (kind === 3) refuse("a deflate stream", "an unknown kind of block");
    else {
      const { symbols, distances } = kind === 1 ? FIXED : readCodes(bits);
      for (let symbol = bits.symbol(symbols); symbol !== 256; symbol = bits.symbol(symbols)) {
        if (symbol < 256) {
          put(symbol);
          continue;
        }
        const distance = repeatDistance(bits, symbol, distances);
        if (distance.back > at) refuse("a deflate stream", "one that refers to what is before it");
        for (let i = 0; i < distance.length; i++) put(data[at - distance.back]);
      }
    }
  } while (!last);
  if (at < size) refuse(`a deflate stream of ${size} bytes`, "one that ends early");
  return { data, end: bits.at };
}

function copyStored(bits, put) {
  bits.left = 0;
  const length = bits.byte() | (bits.byte() << 8);
  const inverse = bits.byte() | (bits.byte() << 8);
  if ((length ^ inverse) !== 0xffff) refuse("a deflate stream", "a stored block of no length");
  for (let i = 0; i < length; i++) put(bits.byte());
}

function repeatDistance(bits, symbol, distances) {
  const which = symbol - 257;
  if (which >= LENGTHS.least.length) refuse("a deflate stream", "one with an unknown length");
  const length = LENGTHS.least[which] + bits.take(LENGTHS.bits[which]);
  const far = bits.symbol(distances);
  if (far >= DISTANCES.least.length) refuse("a deflate stream", "one with an unknown distance");
  return { length, back: DISTANCES.least[far] + bits.take(DISTANCES.bits[far]) };
}

// The codes that a block brings along.
function readCodes(bits) {
  const counts = [bits.take(5) + 257, bits.take(5) + 1];
  const given = bits.take(4) + 4;
  if (counts[0] > 286 || counts[1] > 30) refuse("a deflate stream", "one with too many symbols");
  const ofLengths = Array(19).fill(0);
  for (let i = 0; i < given; i++) ofLengths[LENGTH_ORDER[i]] = bits.take(3);
  const code = huffmanCode(ofLengths, false);
  const lengths = [];
  while (lengths.length < counts[0] + counts[1]) {
    const symbol = bits.symbol(code);
    if (symbol < 16) {
      lengths.push(symbol);
      continue;
    }
    if (symbol === 16 && !lengths.length) refuse("a deflate stream", "one that repeats nothing");
    const value = symbol === 16 ? lengths[lengths.length - 1] : 0;
    const times = symbol === 16 ? 3 + bits.take(2) : symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    for (let i = 0; i < times; i++) lengths.push(value);
  }
  if (lengths.length > counts[0] + counts[1] || !lengths[256]) refuse("a deflate stream", "one with unusable codes");
  return { symbols: huffmanCode(lengths.slice(0, counts[0])), distances: huffmanCode(lengths.slice(counts[0])) };
}
