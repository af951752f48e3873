/**
 * Audio that may have to be sent again. Pure.
 *
 * Positions are samples at 16 kHz since capture began. What captions have come back for is let go; the
 * rest waits for a connection, or for the next one when it breaks. It is bounded: when nothing could be
 * sent for too long, the oldest audio is lost, and counted.
 */
export class Backlog {
  /** @type {Int16Array[]} */
  #chunks = [];
  #begin = 0;
  #end = 0;
  #cursor = 0;
  #nLost = 0;

  /** @param {number} samplesMax Most samples held. */
  constructor(samplesMax) {
    this.samplesMax = samplesMax;
  }

  /** First sample held. */
  get begin() {
    return this.#begin;
  }

  /** One after the last sample held. */
  get end() {
    return this.#end;
  }

  /** Samples that wait to be sent. */
  get nUnsent() {
    return this.#end - this.#cursor;
  }

  /** Samples that were never sent and are gone. */
  get nLost() {
    return this.#nLost;
  }

  /** Room before audio is lost, in samples; what is sent already gives way. */
  get room() {
    return this.samplesMax - this.nUnsent;
  }

  /** @param {Int16Array} chunk */
  push(chunk) {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#end += chunk.length;
    this.#dropBefore(this.#end - this.samplesMax);
  }

  /**
   * The next audio to send, at most so many samples; null when all is sent.
   * @param {number} samples
   * @returns {Int16Array | null}
   */
  next(samples) {
    let at = this.#begin;
    for (const chunk of this.#chunks) {
      if (this.#cursor < at + chunk.length) {
        const from = this.#cursor - at;
        const piece = chunk.subarray(from, from + samples);
        this.#cursor += piece.length;
        return piece;
      }
      at += chunk.length;
    }
    return null;
  }

  /**
   * Send again from here on, or from the first sample held if that is later.
   * @param {number} sample
   * @returns {number} Where sending goes on.
   */
  seek(sample) {
    this.#cursor = Math.max(this.#begin, Math.min(sample, this.#end));
    return this.#cursor;
  }

  /**
   * What lies before is not needed any more.
   * @param {number} sample
   */
  release(sample) {
    this.#dropBefore(Math.min(sample, this.#cursor));
  }

  /** @param {number} sample */
  #dropBefore(sample) {
    while (this.#begin < sample) {
      const chunk = /** @type {Int16Array} */ (this.#chunks[0]);
      const n = Math.min(chunk.length, sample - this.#begin);
      if (n === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(n);
      this.#begin += n;
    }
    if (this.#cursor < this.#begin) {
      this.#nLost += this.#begin - this.#cursor;
      this.#cursor = this.#begin;
    }
  }
}
