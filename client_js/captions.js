/**
 * Live captions in a page of one's own:
 *
 *     import { CaptionStream, captureMicrophone } from "/client/captions.js";
 *     const stream = new CaptionStream({ language: "en", onTranscript: ({ lines }) => … });
 *     stream.open();
 *     const microphone = await captureMicrophone((samples) => stream.push(samples));
 *
 * Importing it also defines the element `<live-captions room="NAME">`.
 */

export { CaptureError, captureMicrophone, captureTab, microphones, pieces, readFile } from "./capture.js";
export { LiveCaptions } from "./element.js";
export { toSrt, toText, toVtt } from "./exports.js";
export { Resampler, level, toInt16 } from "./resample.js";
export { RoomReader } from "./room.js";
export { CaptionStream } from "./stream.js";
export { emptyTranscript, modelNote, reduce } from "./transcript.js";
export { CaptionsView } from "./view.js";
export { SUBPROTOCOL, WireError, decode, encode } from "./wire.js";
