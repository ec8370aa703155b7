// Thumbnails: a crop of an operation's PNG by CSS, loaded when it comes into view. No second picture is stored.
"use strict";

/** A thumbnail that fits into a square of `side` pixels, or an empty one. */
function thumbnail(run, image, operation, side) {
  const frame = element("span", { class: "thumbnail", "aria-hidden": "true" });
  const [name] = image && operation ? pictureNames(operation, image) : [];
  if (!name) {
    frame.classList.add("is-empty");
    return frame;
  }
  const crop = element("span", { class: "crop" });
  const picture = element("img", { alt: "", decoding: "async", draggable: "false" });
  picture.onload = () => fitCrop(crop, picture, operation, side);
  picture.onerror = () => frame.classList.add("is-empty");
  picture.src = addressOf(run, pictureFolder(image, name), `${name}.png`);
  crop.append(picture);
  frame.append(crop);
  return frame;
}

/** Size the picture so that its first map fills the crop. */
function fitCrop(crop, picture, operation, side) {
  const tiles = operation.tiles ?? guessTiles(picture, operation);
  const [width, height] = tiles
    ? [tiles.width * tiles.factor, tiles.height * tiles.factor]
    : [picture.naturalWidth, picture.naturalHeight];
  const zoom = side / Math.max(width, height);
  const top = tiles?.top ?? 0;
  setStyle(crop, { width: `${width * zoom}px`, height: `${height * zoom}px` });
  setStyle(picture, {
    width: `${picture.naturalWidth * zoom}px`,
    transform: `translateY(${-top * zoom}px)`,
    "image-rendering": zoom >= 1 ? "pixelated" : "auto",
  });
  crop.classList.add("is-loaded");
}

/** The tiles of a run that does not say them: an operation of a run of an earlier version. */
function guessTiles(picture, operation) {
  const note = { layout: operation.layout, shape: operation.shape ?? [], tiler: currentRun().recipe?.tiler };
  return tilesOf({ width: picture.naturalWidth, height: picture.naturalHeight, note }, 1, operation);
}
