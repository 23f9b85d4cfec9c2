/** Text in a PNG file. */

/** The text of a tEXt chunk of this key in the file's bytes, or null. */
export function pngText(bytes, key) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const latin = new TextDecoder("latin1");
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (latin.decode(bytes.subarray(at + 4, at + 8)) === "tEXt") {
      const end = data.indexOf(0);
      if (latin.decode(data.subarray(0, end)) === key) return latin.decode(data.subarray(end + 1));
    }
    at += 12 + length;
  }
  return null;
}
