import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler, level, toInt16 } from "../resample.js";

/** @type {(hz: number, rate: number, n: number) => Float32Array} */
const tone = (hz, rate, n) => Float32Array.from({ length: n }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * i) / rate));

/** @type {(samples: Float32Array) => number} */
const rms = (samples) => Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);

/** @type {(resampler: Resampler, pieces: Float32Array[]) => Float32Array} */
const run = (resampler, pieces) =>
  Float32Array.from([...pieces, null].flatMap((piece) => [...(piece ? resampler.push(piece) : resampler.flush())]));

for (const rate of [8000, 16000, 22050, 44100, 48000, 96000]) {
  test(`a second at ${rate} Hz is a second at 16 kHz, and a tone keeps its place and strength`, () => {
    const output = run(new Resampler(rate), [tone(440, rate, rate)]);
    assert.ok(Math.abs(output.length - 16000) <= 1, `${output.length} samples`);
    const wanted = tone(440, 16000, 16000);
    for (let i = 200; i < 15800; i += 1) assert.ok(Math.abs(output[i] - wanted[i]) < 2e-3, `sample ${i}`);
  });
}

test("what is above 8 kHz does not come back as speech", () => {
  const output = run(new Resampler(48000), [tone(9500, 48000, 48000)]).subarray(200, 15800);
  assert.ok(rms(output) < 0.35e-3, `${rms(output)} is left of 0.35`);
});

test("the borders of pieces change nothing", () => {
  const input = tone(1234, 44100, 20000);
  const whole = run(new Resampler(44100), [input]);
  for (const size of [1, 7, 128, 441, 4096]) {
    const pieces = [];
    for (let at = 0; at < input.length; at += size) pieces.push(input.subarray(at, at + size));
    assert.deepEqual(run(new Resampler(44100), pieces), whole, `pieces of ${size}`);
  }
});

test("rates that are none are refused", () => {
  assert.throws(() => new Resampler(0), RangeError);
  assert.throws(() => new Resampler(44100.5), RangeError);
});

test("samples become 16 bits, clipped", () => {
  assert.deepEqual([...toInt16(Float32Array.of(0, 1, -1, 2, -2, 0.5))], [0, 32767, -32768, 32767, -32768, 16384]);
});

test("the meter shows 0 for silence, 1 for full scale, and rises by decibels", () => {
  assert.equal(level(new Int16Array(100)), 0);
  assert.equal(level(new Int16Array(0)), 0);
  assert.ok(level(new Int16Array(100).fill(-32768)) > 0.999);
  assert.ok(Math.abs(level(new Int16Array(100).fill(1036)) - 0.5) < 0.01);
});
