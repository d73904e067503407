// The console in AWS's text and JSON formats.

'use strict';

const fs = require('fs');
const { format } = require('util');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']; // a frame has the place in this list, from 1
const FRAME = 0xa55a0002;
const TEXT = 1;
const LONGEST = 1 << 20; // bytes of text in a frame; what is longer goes on in another one

let requestId;
let tenantId;
let json = false;

function setRequest(id, tenant) {
  requestId = id;
  tenantId = tenant;
}

// patchConsole makes every console method write a record of its level, or nothing below AWS_LAMBDA_LOG_LEVEL.
function patchConsole() {
  const { env } = process;
  json = (env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
  const least = Math.max(0, LEVELS.indexOf((env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()));
  const write = writer(env._LAMBDA_TELEMETRY_LOG_FD);
  delete env._LAMBDA_TELEMETRY_LOG_FD;
  const record = json ? jsonRecord : textRecord;
  const at = (level) => {
    if (level < least && LEVELS[level] !== 'FATAL') {
      return () => {};
    }
    return (message, ...params) => {
      const now = new Date();
      write(level, now, record(LEVELS[level], now, [message, ...params]));
    };
  };
  console.trace = at(0);
  console.debug = at(1);
  console.info = at(2);
  console.log = console.info;
  console.warn = at(3);
  console.error = at(4);
  console.fatal = at(5);
}

function writer(descriptor) {
  if (!descriptor) {
    // A platform that splits standard output at line feeds keeps a record whole if there are none inside.
    return (_level, _now, text) => writeAll(1, Buffer.from(`${text.replace(/\n/g, '\r')}\n`));
  }
  const fd = Number(descriptor);
  return (level, now, text) => {
    let body = Buffer.from(json ? text : `${text}\n`);
    do {
      let end = Math.min(body.length, LONGEST);
      while (end < body.length && (body[end] & 0xc0) === 0x80) {
        end--; // do not cut a character
      }
      const head = Buffer.alloc(16); // type, length, microseconds since 1970; big-endian
      head.writeUInt32BE((FRAME | ((level + 1) << 2) | (json ? 0 : TEXT)) >>> 0, 0);
      head.writeUInt32BE(end, 4);
      head.writeBigUInt64BE(BigInt(now.getTime()) * 1000n, 8);
      writeAll(fd, Buffer.concat([head, body.subarray(0, end)]));
      body = body.subarray(end);
    } while (body.length > 0);
  };
}

function writeAll(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(fd, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') {
        return; // nobody reads any more
      }
      // The function has made the pipe non-blocking, and it is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function textRecord(level, now, params) {
  return `${now.toISOString()}\t${requestId}\t${level}\t${format(...params)}`;
}

function jsonRecord(level, now, params) {
  const record = { timestamp: now.toISOString(), level, requestId };
  if (tenantId !== undefined) {
    record.tenantId = tenantId;
  }
  if (params.length === 1) {
    [record.message] = params;
    try {
      return JSON.stringify(record, (_key, value) => (value instanceof Error ? expanded(value) : value));
    } catch {
      record.message = format(record.message);
      return JSON.stringify(record);
    }
  }
  record.message = format(...params);
  const error = params.find((param) => param instanceof Error);
  if (error) {
    const { errorType, errorMessage, stackTrace } = expanded(error);
    Object.assign(record, { errorType, errorMessage, stackTrace: stackTrace || [] });
  }
  return JSON.stringify(record);
}

function expanded(error) {
  return {
    errorType: (error.constructor && error.constructor.name) || 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : error.stack,
    ...error,
  };
}

// error writes the record of a failure, which has a label in the text format only.
function error(label, value) {
  const errors = require('./errors.cjs');
  value = errors.asError(value);
  if (json) {
    console.error(value);
  } else {
    console.error(label, `\t${errors.forLog(value)}`);
  }
}

module.exports = { patchConsole, setRequest, error };
