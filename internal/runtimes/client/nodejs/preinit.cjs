// Starts ahead of knowing the function.
//
// The interpreter loads what it can, writes the line "ready" to the descriptor, and waits for one line of JSON on it:
// {"env": {...}, "cwd": "..."}. The environment replaces its own; then it goes on as if it had been started so. A pipe
// will do as well as a socket, only that nobody is told "ready". If the descriptor ends first, the function never came:
// it exits.

'use strict';

const fs = require('fs');
const Module = require('module');

require('./loader.cjs');
require('./errors.cjs');
require('./stream.cjs');
require('url');

async function wait(fd) {
  await import('fs'); // what ES modules need is loaded at the first import
  try {
    fs.writeSync(fd, 'ready\n');
  } catch {
    // one can only read from it
  }
  const line = readLine(fd);
  if (line === null) {
    process.exit(0);
  }
  fs.closeSync(fd);
  const { env, cwd } = JSON.parse(line);
  // What is the same stays untouched: V8 looks for the time zone again whenever TZ is set or deleted, which takes 20 ms.
  for (const name of Object.keys(process.env)) {
    if (!(name in env)) {
      delete process.env[name];
    }
  }
  for (const name of Object.keys(env)) {
    if (process.env[name] !== env[name]) {
      process.env[name] = env[name];
    }
  }
  process.chdir(cwd);
  Module._initPaths(); // reads NODE_PATH again
}

function readLine(fd) {
  const parts = [];
  const buffer = Buffer.alloc(65536);
  for (;;) {
    const n = fs.readSync(fd, buffer);
    if (n === 0) {
      return null;
    }
    parts.push(Buffer.from(buffer.subarray(0, n)));
    if (buffer[n - 1] === 10) {
      return Buffer.concat(parts).toString();
    }
  }
}

module.exports = { wait };
