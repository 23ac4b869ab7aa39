// Parses JSON more strictly than browsers do, to Maps, and writes it in the canonical form of packed files.
// Which fields there are is left to reader.js.

const MARK = /([{}[\],:])/;
const STRING = /("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")/;
const NUMBER = /(-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)(?![\w.])/;
const WORD = /(true|false|null)(?!\w)/;
const TOKEN = RegExp(`[ \\t\\n\\r]*(?:${[MARK, STRING, NUMBER, WORD].map(({ source }) => source).join("|")})`, "y");

// The text of some bytes, which must be UTF-8.
function decodeText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse("JSON in UTF-8", "other bytes");
  }
}

// One JSON value: objects become Maps without repeated names, numbers counts or a Fraction.
function parseJson(text) {
  let at = 0;
  let token;
  const advance = () => {
    TOKEN.lastIndex = at;
    token = TOKEN.exec(text);
    if (token) at = TOKEN.lastIndex;
    else if (/[^ \t\n\r]/.test(text.slice(at))) refuse("JSON", "something else");
  };
  const is = (mark) => token?.[1] === mark;
  const expect = (mark) => {
    if (!is(mark)) refuse(`${mark} in JSON`, "something else");
    advance();
  };
  const list = (open, close, item) => {
    expect(open);
    if (!is(close)) {
      item();
      while (is(",")) {
        advance();
        item();
      }
    }
    expect(close);
  };
  const value = (depth) => {
    if (!token || depth > MAX_DEPTH) refuse("JSON", "its end, or too many levels");
    if (is("{")) {
      const found = new Map();
      list("{", "}", () => {
        if (token?.[2] === undefined) refuse("a name in JSON", "something else");
        const name = textOf(token[2]);
        if (found.has(name)) refuse("names that differ", "one given twice");
        advance();
        expect(":");
        found.set(name, value(depth + 1));
      });
      return found;
    }
    if (is("[")) {
      const found = [];
      list("[", "]", () => found.push(value(depth + 1)));
      return found;
    }
    const [, mark, string, number, fraction, exponent, word] = token;
    if (mark !== undefined) refuse("a value in JSON", mark);
    advance();
    if (string !== undefined) return textOf(string);
    if (word !== undefined) return JSON.parse(word);
    if (fraction ?? exponent) return new Fraction(Number(number));
    if (!isCount(Number(number)) || number.startsWith("-")) refuse("a count", number);
    return Number(number);
  };
  advance();
  const found = value(0);
  if (token) refuse("the end of JSON", "more of it");
  return found;
}

function textOf(string) {
  const text = JSON.parse(string);
  if (/\p{Surrogate}/u.test(text)) refuse("whole characters", "half of one");
  return text;
}

// A value as packed files write it: sorted names, no space, ASCII, numbers as Python shows them.
function canonical(value) {
  if (value instanceof Map) {
    const parts = [...value.keys()].sort().map((key) => `${escaped(key)}:${canonical(value.get(key))}`);
    return `{${parts.join(",")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Fraction) return shortest(value.value);
  return typeof value === "string" ? escaped(value) : String(value);
}

function escaped(text) {
  const code = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, code);
}

function shortest(number) {
  const [digits, power] = number.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) return `${digits}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  const text = Object.is(number, -0) ? "-0" : String(number);
  return text.includes(".") ? text : `${text}.0`;
}
