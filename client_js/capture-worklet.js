/**
 * Runs on the audio thread: takes what the microphone gives, 128 samples at a time, and posts it in
 * pieces of 50 ms, mixed down to one channel.
 */

/* The scope of an audio worklet, which TypeScript's library does not describe. */
/** @typedef {{ port: MessagePort }} Processor */
const scope = /** @type {any} */ (globalThis);
const Base = /** @type {new () => Processor} */ (scope.AudioWorkletProcessor);
const PIECE_SAMPLES = Math.round(/** @type {number} */ (scope.sampleRate) / 20);

class Capture extends Base {
  #piece = new Float32Array(PIECE_SAMPLES);
  #length = 0;

  /**
   * @param {Float32Array[][]} inputs
   * @returns {boolean} Whether to be called again.
   */
  process([channels]) {
    const first = channels?.[0];
    if (first === undefined || channels === undefined) return true;
    for (let index = 0; index < first.length; index += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[index] ?? 0;
      this.#piece[this.#length] = sum / channels.length;
      this.#length += 1;
      if (this.#length === PIECE_SAMPLES) this.#post();
    }
    return true;
  }

  #post() {
    this.port.postMessage(this.#piece, [this.#piece.buffer]);
    this.#piece = new Float32Array(PIECE_SAMPLES);
    this.#length = 0;
  }
}

scope.registerProcessor("capture", Capture);
