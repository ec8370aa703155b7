// The selection language of --at: patterns of paths, op:KIND and inside:MODULE, joined by & | ~ and ( ).
// The same grammar as surgery/rewriting/selection.py; a text becomes a predicate over operations.
"use strict";

/** @typedef {(operation: OperationEntry) => boolean} Predicate */

class SelectionError extends Error {}

/** Read a selection. @param {string} text @returns {Predicate} @throws {SelectionError} */
function parseSelection(text) {
  const tokens = text.match(/[&|~()]|[^\s&|~()]+/g) ?? [];
  if (tokens.length > 200) throw new SelectionError("a selection has at most 200 patterns and operators");
  const predicate = parseOr(tokens);
  if (tokens.length) throw new SelectionError(`can't read the selection at “${tokens[0]}”`);
  return predicate;
}

function parseOr(tokens) {
  let left = parseAnd(tokens);
  while (tokens[0] === "|") {
    tokens.shift();
    const [a, b] = [left, parseAnd(tokens)];
    left = (operation) => a(operation) || b(operation);
  }
  return left;
}

function parseAnd(tokens) {
  let left = parseAtom(tokens);
  while (tokens[0] === "&") {
    tokens.shift();
    const [a, b] = [left, parseAtom(tokens)];
    left = (operation) => a(operation) && b(operation);
  }
  return left;
}

function parseAtom(tokens) {
  const token = tokens.shift();
  if (token === undefined) throw new SelectionError("the selection ends where a pattern is expected");
  if (token === "~") {
    const inner = parseAtom(tokens);
    return (operation) => !inner(operation);
  }
  if (token === "(") {
    const inner = parseOr(tokens);
    if (tokens.shift() !== ")") throw new SelectionError("the selection lacks a closing parenthesis");
    return inner;
  }
  if ("&|)".includes(token)) throw new SelectionError(`can't read the selection at “${token}”`);
  return parsePattern(token);
}

function parsePattern(token) {
  const colon = token.indexOf(":");
  if (colon < 0) {
    const pattern = wildcard(token);
    return (operation) => pattern.test(operation.path);
  }
  const [prefix, text] = [token.slice(0, colon), token.slice(colon + 1)];
  if (!text || !["path", "op", "inside"].includes(prefix)) {
    throw new SelectionError(`can't read “${token}”; write a pattern, op:KIND or inside:MODULE`);
  }
  if (prefix === "path") return parsePattern(text);
  const pattern = wildcard(prefix === "op" ? foldKind(text) : text);
  if (prefix === "op") return (operation) => pattern.test(foldKind(operation.kind));
  return (operation) => (operation.modules ?? []).some((module) => pattern.test(module));
}

/** Case and underscores of a kind don't matter. */
function foldKind(kind) {
  return kind.toLowerCase().replaceAll("_", "");
}

/** A shell wildcard as a regular expression, as Python's fnmatch reads it: * ? [ab] [!ab]. */
function wildcard(pattern) {
  let source = "";
  for (let i = 0; i < pattern.length; i += 1) {
    const end = pattern[i] === "[" ? pattern.indexOf("]", i + (pattern[i + 1] === "!" ? 3 : 2)) : -1;
    if (pattern[i] === "*") source += ".*";
    else if (pattern[i] === "?") source += ".";
    else if (end > 0) {
      const set = pattern.slice(i + 1, end).replaceAll("\\", "\\\\").replaceAll("]", "\\]").replace(/^\^/, "\\^");
      source += `[${set.replace(/^!/, "^")}]`;
      i = end;
    } else source += pattern[i].replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  }
  try {
    return new RegExp(`^${source}$`, "s");
  } catch {
    throw new SelectionError(`can't read the pattern “${pattern}”`);
  }
}
