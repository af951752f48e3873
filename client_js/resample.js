/**
 * Sample rates and sample formats. Pure.
 *
 * The browser resamples where it takes `new AudioContext({ sampleRate: 16000 })`; this is for where it
 * refuses. Plain decimation would fold everything above 8 kHz into speech.
 */

/** Hz; what the server's models hear. */
export const SAMPLE_RATE = 16_000;

/** Zero crossings of the sinc on each side of its middle: the price is 2 × this × rate ratio operations a sample. */
const CROSSINGS = 16;
/** Of the Kaiser window: 80 dB of stop band, beyond what 16 bits of a microphone carry. */
const BETA = 7.86;
/** Part of the lower Nyquist frequency that passes; the rest is the filter's slope. */
const PASS = 0.92;

/** A band-limited resampler for one channel, fed piece by piece; the pieces' borders change nothing. */
export class Resampler {
  /** Input kept: what the filter still reaches back to. @type {Float32Array} */
  #input;
  /** Input samples before `#input`. */
  #dropped = 0;
  #nOut = 0;
  /** @type {Float32Array[]} */
  #phases = [];

  /**
   * @param {number} from Hz, an integer.
   * @param {number} [to] Hz, an integer.
   */
  constructor(from, to = SAMPLE_RATE) {
    if (!(Number.isInteger(from) && Number.isInteger(to) && from > 0 && to > 0)) {
      throw new RangeError(`sample rates are whole numbers above 0, not ${from} and ${to}`);
    }
    const divisor = greatestCommonDivisor(from, to);
    /** Output n lies at input position n × step / parts. */
    this.step = from / divisor;
    this.parts = to / divisor;
    this.cutoff = PASS * Math.min(1, to / from);
    this.reach = Math.ceil(CROSSINGS / Math.min(1, to / from));
    this.#input = new Float32Array(this.reach);
    this.#dropped = -this.reach;
  }

  /**
   * @param {Float32Array} samples
   * @returns {Float32Array} What can be told so far, about `samples.length × to / from`.
   */
  push(samples) {
    this.#input = concatenated(this.#input, samples);
    const output = [];
    for (;;) {
      const at = Math.floor((this.#nOut * this.step) / this.parts);
      const first = at - this.reach + 1 - this.#dropped;
      if (first + 2 * this.reach > this.#input.length) break;
      output.push(this.#weigh(first, (this.#nOut * this.step) % this.parts));
      this.#nOut += 1;
    }
    this.#forget();
    return Float32Array.from(output);
  }

  /** The rest, as if silence followed; the resampler is done then. */
  flush() {
    return this.push(new Float32Array(this.reach));
  }

  /**
   * @param {number} first Index into the kept input.
   * @param {number} part Phase, 0 to `parts` - 1.
   */
  #weigh(first, part) {
    const taps = (this.#phases[part] ??= this.#taps(part / this.parts));
    let sum = 0;
    for (let index = 0; index < taps.length; index += 1) {
      sum += /** @type {number} */ (taps[index]) * /** @type {number} */ (this.#input[first + index]);
    }
    return sum;
  }

  /** @param {number} fraction Of an input sample. */
  #taps(fraction) {
    const taps = new Float32Array(2 * this.reach);
    let total = 0;
    for (let index = 0; index < taps.length; index += 1) {
      const distance = index - this.reach + 1 - fraction;
      const value = sinc(distance * this.cutoff) * kaiser(distance / this.reach);
      taps[index] = value;
      total += value;
    }
    return taps.map((value) => value / total);
  }

  #forget() {
    const at = Math.floor((this.#nOut * this.step) / this.parts);
    const unneeded = at - this.reach + 1 - this.#dropped;
    if (unneeded > 0) {
      this.#input = this.#input.slice(unneeded);
      this.#dropped += unneeded;
    }
  }
}

/**
 * 16-bit samples of what is full scale at ±1; more is clipped.
 * @param {Float32Array} samples
 */
export function toInt16(samples) {
  return Int16Array.from(samples, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}

/**
 * How loud samples are, for a meter: 0 at -60 dB and below, 1 at full scale.
 * @param {Int16Array} samples
 */
export function level(samples) {
  let sum = 0;
  for (const value of samples) sum += value * value;
  const rms = Math.sqrt(sum / Math.max(1, samples.length)) / 32768;
  return Math.max(0, Math.min(1, 1 + Math.log10(Math.max(rms, 1e-9)) / 3));
}

/**
 * @param {Float32Array} head
 * @param {Float32Array} tail
 */
function concatenated(head, tail) {
  const whole = new Float32Array(head.length + tail.length);
  whole.set(head);
  whole.set(tail, head.length);
  return whole;
}

/** @type {(x: number) => number} */
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** @type {(x: number) => number} */
const kaiser = (x) => (Math.abs(x) > 1 ? 0 : bessel(BETA * Math.sqrt(1 - x * x)) / bessel(BETA));

/**
 * The modified Bessel function of the first kind and order 0, by its power series.
 * @param {number} x
 */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** @type {(a: number, b: number) => number} */
const greatestCommonDivisor = (a, b) => (b === 0 ? a : greatestCommonDivisor(b, a % b));
