// Where the maps of an activation lie in its picture. The picture's text or run.js says it; pictures of older runs are
// read from their size, their shape and the recipe.
"use strict";

/**
 * @typedef {{maps: number, height: number, width: number, columns: number, factor: number, gap: number, top: number}} Tiles
 */

/** The tiles of one picture with `maps` maps, or null if its tiler is not known. @returns {Tiles|null} */
function tilesOf(png, maps, operation) {
  const told = png.note.tiles ?? null;
  if (told?.columns && told.height) return { gap: 0, factor: 1, top: 0, maps, ...told };
  for (const [height, width] of mapSizes(png.note, operation)) {
    const found = fitTiles(png, maps, height, width);
    if (found) return found;
  }
  return null;
}

/** The sizes that a map may have, by its layout. @returns {number[][]} */
function mapSizes(note, operation) {
  const shape = note.shape ?? [];
  const sizes = [];
  if (operation?.maps) sizes.push(operation.maps.slice(1));
  if (note.layout === "channels-last" && shape.length >= 3) sizes.push(shape.slice(-3, -1));
  const grid = /(\d+)x(\d+)/.exec(note.layout ?? "");
  if (grid) sizes.push([Number(grid[1]), Number(grid[2])]);
  if (note.layout === "vector" || shape.length === 1) sizes.push(foldedSize(shape.reduce((a, b) => a * b, 1)));
  if (shape.length >= 2) sizes.push(shape.slice(-2));
  return sizes;
}

/** The size of the near-square map in which a vector is drawn. */
function foldedSize(length) {
  const least = Math.ceil(Math.sqrt(length));
  let columns = least;
  for (let each = least; each <= 2 * least; each += 1) {
    if (length % each === 0) {
      columns = each;
      break;
    }
  }
  return [Math.ceil(length / columns), columns];
}

/** The tiles that fill a picture exactly: the recipe's gap, and the columns that its width allows. */
function fitTiles(png, maps, height, width) {
  const tiler = String(png.note.tiler ?? "");
  const option = (name, otherwise) => Number(new RegExp(`${name}=(\\d+)`).exec(tiler)?.[1] ?? otherwise);
  const gap = tiler.startsWith("Channels") ? 0 : option("gap", 1);
  if (/labels=True/.test(tiler) || !height || !width) return null;
  const factor = Math.max(1, Math.ceil(option("least", 16) / Math.max(height, width)));
  const columns = (png.width + gap) / (width * factor + gap);
  const rows = (png.height + gap) / (height * factor + gap);
  const fits = Number.isInteger(columns) && Number.isInteger(rows) && columns * rows >= maps;
  return fits ? { height, width, columns, factor, gap, top: 0, maps } : null;
}

/** The top left pixel of a tile's map in its picture. */
function tileOrigin(tiles, number) {
  const row = Math.floor(number / tiles.columns);
  return {
    x: (number % tiles.columns) * (tiles.width * tiles.factor + tiles.gap),
    y: row * (tiles.height * tiles.factor + tiles.gap + tiles.top) + tiles.top,
  };
}
