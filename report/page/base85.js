"use strict";
// Base 85 of base85.py. Five digits are four bytes; of bytes that are not a multiple of four the last digits are fewer.
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;.=>?@^_`{|}~";

const bytesOf = (text) => {
  const value = new Uint8Array(128);
  for (let i = 0; i < DIGITS.length; i++) {
    value[DIGITS.charCodeAt(i)] = i;
  }
  const bytes = new Uint8Array(Math.ceil(text.length / 5) * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0, at = 0; i < text.length; i += 5, at += 4) {
    let number = 0;
    for (let k = i; k < i + 5; k++) {
      number = number * 85 + (k < text.length ? value[text.charCodeAt(k)] : 84);
    }
    view.setUint32(at, number);
  }
  return bytes.subarray(0, Math.floor((text.length * 4) / 5));
};
