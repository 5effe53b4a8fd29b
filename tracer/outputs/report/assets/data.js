// The data of the page: a JSON head, then columns, all in one compressed block.

const ARRAYS = { float64: Float64Array, int32: Int32Array, uint8: Uint8Array };

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  return bytes;
}

async function load() {
  const element = document.getElementById('data');
  const stream = new Blob([bytesOf(element.textContent.trim())]).stream();
  element.remove();
  const buffer = await new Response(stream.pipeThrough(new DecompressionStream('deflate'))).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const columns = {};
  let at = 4 + length;
  for (const [name, kind, count] of head.arrays) {
    at += (8 - (at % 8)) % 8;
    columns[name] = new ARRAYS[kind](buffer, at, count);
    at += columns[name].byteLength;
  }
  return { ...head, columns };
}

// -- building elements: text only, never markup ------------------------------------------------------------------

function add(parent, tag, attributes = {}, text = null) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

function draw(parent, tag, attributes = {}, text = null) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

const count = (number) => number.toLocaleString('en');
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? '' : 's'}`;

// A time in the unit that suits it.
function duration(ns) {
  const [unit, size] = [['s', 1e9], ['ms', 1e6], ['µs', 1e3], ['ns', 1]].find(([, least]) => ns >= least) || ['s', 1e9];
  return `${Number((ns / size).toPrecision(4))} ${unit}`;
}
const seconds = (ns) => (ns / 1e9).toFixed(6);

// Milliseconds with three digits, rounded as Python does: half to even, where the half is exact.
function milliseconds(ns) {
  if (ns % 62500 === 0 && ns % 1000 === 500) {
    const floor = Math.floor(ns / 1000);
    return ((floor + (floor % 2)) / 1000).toFixed(3);
  }
  return (ns / 1e6).toFixed(3);
}
