/** Where speech comes from: a microphone, the audio of a tab, or a file; always 16-bit mono at 16 kHz. */

import { Resampler, SAMPLE_RATE, toInt16 } from "./resample.js";

/** Bytes of a file that is decoded whole in memory: about two hours of MP3. */
const FILE_BYTES_MAX = 200 * 1024 * 1024;
/** Samples of a piece of a recording: 100 ms. */
const PIECE_SAMPLES = SAMPLE_RATE / 10;

/**
 * Something that is being listened to.
 * @typedef {object} Capture
 * @property {string} label Of the device or the file.
 * @property {() => Promise<void>} stop Let go of the device.
 */

/** What a person must know who wanted to be heard and is not. */
export class CaptureError extends Error {
  /** @override */
  name = "CaptureError";
}

/**
 * Listen to a microphone.
 * @param {(samples: Int16Array) => void} onSamples Called every 50 ms.
 * @param {{ deviceId?: string, onEnd?: () => void }} [options] `onEnd`: the device was unplugged, or the
 *   permission taken back.
 * @returns {Promise<Capture>}
 * @throws {CaptureError} No permission, no device, or one that another program holds.
 */
export async function captureMicrophone(onSamples, { deviceId, onEnd } = {}) {
  const audio = {
    channelCount: 1,
    echoCancellation: true,
    // Whisper was trained on noisy speech; a suppressor takes away more words than noise.
    noiseSuppression: false,
    autoGainControl: true,
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
  const stream = await asked(() => navigator.mediaDevices.getUserMedia({ audio }), "microphone");
  return listen(stream, onSamples, onEnd);
}

/**
 * Listen to what a tab plays, such as a meeting; the browser asks which one.
 * @param {(samples: Int16Array) => void} onSamples Called every 50 ms.
 * @param {{ onEnd?: () => void }} [options] `onEnd`: sharing was stopped.
 * @returns {Promise<Capture>}
 * @throws {CaptureError} Not allowed, or shared without its audio.
 */
export async function captureTab(onSamples, { onEnd } = {}) {
  // More than TypeScript's library knows: https://www.w3.org/TR/screen-capture/ and its extensions.
  const wanted = /** @type {DisplayMediaStreamOptions} */ ({
    video: true,
    audio: { suppressLocalAudioPlayback: false },
    systemAudio: "include",
    selfBrowserSurface: "exclude",
    surfaceSwitching: "include",
  });
  const stream = await asked(() => navigator.mediaDevices.getDisplayMedia(wanted), "tab");
  if (stream.getAudioTracks().length === 0) {
    for (const track of stream.getTracks()) track.stop();
    throw new CaptureError(
      "This tab was shared without its audio. Share it again and switch on “Also share tab audio”; " +
        "Chrome and Edge offer that, Firefox and Safari do not.",
    );
  }
  return listen(stream, onSamples, onEnd);
}

/**
 * The samples of an audio or video file, decoded by the browser.
 * @param {File} file
 * @returns {Promise<Int16Array>}
 * @throws {CaptureError} Too large, or of a kind the browser does not read.
 */
export async function readFile(file) {
  if (file.size > FILE_BYTES_MAX) throw new CaptureError(`${file.name} is larger than 200 MB. Cut it into parts.`);
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  try {
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    return toInt16(mixedDown(buffer));
  } catch (cause) {
    throw new CaptureError(`${file.name} is not a recording this browser can read. Try WAV, MP3 or M4A.`, { cause });
  }
}

/**
 * A recording in pieces of 100 ms.
 * @param {Int16Array} samples
 */
export function* pieces(samples) {
  for (let at = 0; at < samples.length; at += PIECE_SAMPLES) yield samples.subarray(at, at + PIECE_SAMPLES);
}

/** The microphones there are; without names until one was allowed. */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind }) => kind === "audioinput");
}

/**
 * @param {() => Promise<MediaStream>} ask
 * @param {string} what
 * @returns {Promise<MediaStream>}
 */
async function asked(ask, what) {
  try {
    return await ask();
  } catch (cause) {
    const name = cause instanceof Error ? cause.name : "";
    throw new CaptureError(REASONS[name] ?? `The ${what} cannot be used: ${name || "unknown reason"}.`, { cause });
  }
}

/** By the names of `DOMException`. @type {Record<string, string>} */
const REASONS = {
  NotAllowedError: "The browser was not allowed to listen. Allow it beside the page's address, then start again.",
  NotFoundError: "There is no microphone. Plug one in, then start again.",
  NotReadableError: "Another program holds the microphone, or it is switched off. Free it, then start again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one.",
  TypeError: "This browser cannot do that on this page.",
};

/**
 * @param {MediaStream} stream
 * @param {(samples: Int16Array) => void} onSamples
 * @param {(() => void) | undefined} onEnd
 * @returns {Promise<Capture>}
 */
async function listen(stream, onSamples, onEnd) {
  const { context, source } = tapped(stream);
  await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  const resampler = context.sampleRate === SAMPLE_RATE ? null : new Resampler(context.sampleRate);
  node.port.onmessage = ({ data }) => onSamples(toInt16(resampler === null ? data : resampler.push(data)));
  source.connect(node);
  await context.resume();
  const [track] = stream.getAudioTracks();
  track?.addEventListener("ended", () => onEnd?.());
  return {
    label: track?.label ?? "",
    stop: async () => {
      node.port.onmessage = null;
      for (const each of stream.getTracks()) each.stop();
      await context.close();
    },
  };
}

/**
 * A context at 16 kHz; at the device's own rate where the browser does not resample microphones
 * (Firefox: https://bugzilla.mozilla.org/show_bug.cgi?id=1674892).
 * @param {MediaStream} stream
 */
function tapped(stream) {
  const context = new AudioContext({ sampleRate: SAMPLE_RATE });
  try {
    return { context, source: context.createMediaStreamSource(stream) };
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "NotSupportedError")) throw error;
    void context.close();
    const native = new AudioContext();
    return { context: native, source: native.createMediaStreamSource(stream) };
  }
}

/** @param {AudioBuffer} buffer */
function mixedDown(buffer) {
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const samples = buffer.getChannelData(channel);
    for (let index = 0; index < mono.length; index += 1) {
      mono[index] = (mono[index] ?? 0) + (samples[index] ?? 0) / buffer.numberOfChannels;
    }
  }
  return mono;
}
