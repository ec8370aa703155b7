// Loads activations from the scripts beside the page, and keeps the most recent ones.
// A page from file:// may not fetch; a script element may load, and hands its PNG to surgeryPage.pixels.
"use strict";

const MAX_HELD_BYTES = 384 * 2 ** 20;

/** Activations by their address, the least recently used first. @type {Map<string, Promise<Activation>>} */
const heldActivations = new Map();
/** @type {Map<string, number>} */
const heldSizes = new Map();

/** The address of a file of a run; any name of a folder or file is escaped. */
function addressOf(run, ...names) {
  const parts = [run.folder, ...names].flatMap((each) => each.split("/")).filter(Boolean);
  return parts.map(encodeURIComponent).join("/");
}

/** The names of an operation's pictures of an image, without their suffix. @returns {string[]} */
function pictureNames(operation, image) {
  const names = operation?.picture ?? [];
  return image?.missing ? names.filter((name) => !image.missing.includes(name)) : names;
}

/** The folder of a picture: the image's own, or that of the batch whose values it shares. */
function pictureFolder(image, name) {
  return image.shared?.pictures.includes(name) ? image.shared.folder : image.folder;
}

/** Load the activation of an operation for an image of a run. @returns {Promise<Activation>} */
function loadActivation(run, image, operation) {
  const key = [run.id, image.folder, operation.name].join("\n");
  let promise = heldActivations.get(key);
  if (promise) {
    heldActivations.delete(key);
  } else {
    promise = readActivation(run, image, operation);
    promise.then(
      (activation) => hold(key, activation.size),
      () => heldActivations.delete(key),
    );
  }
  heldActivations.set(key, promise);
  return promise;
}

function hold(key, size) {
  heldSizes.set(key, size);
  let total = 0;
  for (const each of heldSizes.values()) total += each;
  for (const oldest of heldActivations.keys()) {
    if (total <= MAX_HELD_BYTES || oldest === key) break;
    total -= heldSizes.get(oldest) ?? 0;
    heldSizes.delete(oldest);
    heldActivations.delete(oldest);
  }
}

async function readActivation(run, image, operation) {
  const names = pictureNames(operation, image);
  if (!names.length) throw new UnreadablePicture(operation.picture.length ? "this operation did not run for this image" : "this operation was not drawn");
  const pngs = await Promise.all(names.map((name) => readPng(addressOf(run, "page/pixels", pictureFolder(image, name), `${name}.js`))));
  return new Activation(pngs, operation);
}

async function readPng(address) {
  const text = await loadScript(address);
  try {
    return await decodePng(bytesOfBase64(text));
  } catch {
    throw unusable(address, "is damaged");
  }
}

/** Run a script of the run and return what it hands over: the base64 text of a PNG, or measures. @returns {Promise<any>} */
function loadScript(address) {
  return new Promise((resolve, reject) => {
    const script = element("script", { src: address });
    let text = null;
    const finish = (action) => {
      waitingScripts.delete(script);
      script.remove();
      action();
    };
    waitingScripts.set(script, (given) => (text = given));
    script.onload = () => finish(() => (text === null ? reject(unusable(address, "is damaged")) : resolve(text)));
    script.onerror = () => finish(() => reject(unusable(address, "is missing")));
    document.head.append(script);
  });
}

function unusable(address, why) {
  return new UnreadablePicture(`${decodeURIComponent(address)} ${why}; run \`surgery view\` on the folder`);
}
