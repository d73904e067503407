// The Runtime API over one kept connection. HTTP is spoken here by hand: node:http costs more to load than this client.

'use strict';

const net = require('net');

const VERSION = '/2018-06-01/runtime/';

class ApiError extends Error {
  constructor(path, status, body) {
    super(`${path} answered ${status}: ${body}`);
    this.status = status;
  }
}

class RuntimeApi {
  // One request at a time. It waits without a time limit, since the process may be frozen for long between two events.
  // The connection keeps the process alive only while an answer is awaited.
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.host = address;
    this.hostname = address.slice(0, colon).replace(/^\[|\]$/g, '');
    this.port = Number(address.slice(colon + 1));
    this.socket = null;
    this.pending = null;
    this.abandoned = false;
  }

  // abandon leaves whatever is under way to itself: an error will be posted, on a connection of its own, and then the
  // process ends. No other request is sent any more.
  abandon() {
    this.abandoned = true;
    this.socket = null;
    this.pending = null;
  }

  // next waits for an event: {headers with lower-case names, body as a Buffer}.
  next() {
    return this.abandoned ? new Promise(() => {}) : this.request('GET', `${VERSION}invocation/next`);
  }

  respond(id, text) {
    return this.abandoned ? new Promise(() => {}) : this.request('POST', `${VERSION}invocation/${id}/response`, text);
  }

  fail(id, payload, cause) {
    return this.request('POST', `${VERSION}invocation/${id}/error`, JSON.stringify(payload), errorHeaders(payload, cause));
  }

  failInit(payload, cause) {
    return this.request('POST', `${VERSION}init/error`, JSON.stringify(payload), errorHeaders(payload, cause));
  }

  async request(method, path, text, headers = '') {
    let head = `${method} ${path} HTTP/1.1\r\nHost: ${this.host}\r\n${headers}`;
    if (text !== undefined) {
      head += `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`;
    }
    const data = `${head}\r\n${text === undefined ? '' : text}`;
    const kept = this.socket !== null;
    let answer;
    try {
      answer = await this.exchange(data);
    } catch (error) {
      if (!kept || !error.unanswered) {
        throw error;
      }
      // The other side had closed the idle connection, so it has not seen the request.
      answer = await this.exchange(data);
    }
    if (answer.status >= 300) {
      throw new ApiError(path, answer.status, answer.body);
    }
    return answer;
  }

  exchange(data) {
    const answer = this.await();
    this.socket.write(data);
    return answer;
  }

  // stream starts a request whose body comes in pieces. The caller writes to the returned socket and awaits answer.
  stream(id, headers) {
    const path = `${VERSION}invocation/${id}/response`;
    const answer = this.await().then((a) => {
      if (a.status >= 300) {
        throw new ApiError(path, a.status, a.body);
      }
      return a;
    });
    this.socket.write(`POST ${path} HTTP/1.1\r\nHost: ${this.host}\r\nTransfer-Encoding: chunked\r\n${headers}\r\n`);
    this.socket.unref(); // until the end is written, it is the handler that must have something left to do
    return { socket: this.socket, answer };
  }

  await() {
    if (this.socket === null) {
      this.connect();
    }
    this.socket.ref();
    return new Promise((resolve, reject) => {
      this.pending = { resolve, reject };
    });
  }

  // connect opens the connection ahead of the first request.
  connect() {
    const socket = net.connect({ host: this.hostname, port: this.port, noDelay: true });
    const parser = new Parser();
    socket.setNoDelay(true); // for Node.js 16, whose connect does not know the option
    this.socket = socket;
    socket.unref();
    socket.on('data', (data) => {
      const answer = parser.add(data);
      if (answer !== null) {
        this.settle(socket, answer.headers.connection === 'close').resolve(answer);
      }
    });
    let failure = null;
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('close', () => {
      const last = parser.finish();
      const waiter = this.settle(socket, true);
      if (last !== null) {
        waiter.resolve(last);
        return;
      }
      const error = failure || new Error('The Runtime API closed the connection');
      error.unanswered = parser.empty();
      waiter.reject(error);
    });
  }

  // settle ends the request under way and returns its promise's ends.
  settle(socket, closed) {
    const waiter = this.socket === socket && this.pending;
    if (this.socket === socket) {
      this.pending = null;
      socket.unref();
      if (closed) {
        this.socket = null;
        socket.destroy();
      }
    }
    return waiter || { resolve() {}, reject() {} };
  }
}

// Parser makes answers of the bytes of a connection.
class Parser {
  constructor() {
    this.chunks = [];
    this.size = 0;
    this.answer = null; // the one whose head has come
    this.end = 0; // where its body ends, or the next chunk of it; -1: with the connection
    this.parts = null; // the pieces of a chunked body
  }

  empty() {
    return this.size === 0 && this.answer === null;
  }

  // add takes bytes and returns an answer that they complete, or null.
  add(data) {
    this.chunks.push(data);
    this.size += data.length;
    if (this.answer !== null && this.end > this.size) {
      return null;
    }
    let buffer = this.chunks.length === 1 ? data : Buffer.concat(this.chunks);
    if (this.answer === null) {
      const at = buffer.indexOf('\r\n\r\n');
      if (at < 0) {
        this.keep(buffer);
        return null;
      }
      this.begin(buffer.toString('utf8', 0, at));
      buffer = buffer.subarray(at + 4);
    }
    return this.body(buffer);
  }

  begin(head) {
    const lines = head.split('\r\n');
    const headers = {};
    for (let i = 1; i < lines.length; i++) {
      const colon = lines[i].indexOf(':');
      headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
    }
    const status = Number(lines[0].split(' ', 2)[1]);
    this.answer = { status, headers, body: null };
    this.parts = null;
    if (headers['content-length'] !== undefined) {
      this.end = Number(headers['content-length']);
    } else if (headers['transfer-encoding'] === 'chunked') {
      this.parts = [];
      this.end = 0;
    } else {
      this.end = status === 204 || status === 304 ? 0 : -1;
    }
  }

  body(buffer) {
    if (this.parts !== null) {
      return this.chunked(buffer);
    }
    if (this.end < 0 || buffer.length < this.end) {
      this.keep(buffer);
      return null;
    }
    return this.complete(buffer.subarray(0, this.end), buffer.subarray(this.end));
  }

  chunked(buffer) {
    for (;;) {
      const at = buffer.indexOf('\r\n');
      if (at < 0) {
        break;
      }
      const line = buffer.toString('latin1', 0, at);
      const last = this.parts.last;
      if (last) {
        buffer = buffer.subarray(at + 2);
        if (line === '') {
          return this.complete(Buffer.concat(this.parts), buffer);
        }
        continue; // a trailer
      }
      const size = parseInt(line, 16);
      if (size === 0) {
        this.parts.last = true;
        buffer = buffer.subarray(at + 2);
        continue;
      }
      if (buffer.length < at + 2 + size + 2) {
        break;
      }
      this.parts.push(buffer.subarray(at + 2, at + 2 + size));
      buffer = buffer.subarray(at + 2 + size + 2);
    }
    this.keep(buffer);
    return null;
  }

  complete(body, rest) {
    const { answer } = this;
    answer.body = body;
    this.answer = null;
    this.keep(rest);
    return answer;
  }

  keep(rest) {
    this.chunks = rest.length === 0 ? [] : [rest];
    this.size = rest.length;
  }

  // finish returns the answer that the end of the connection completes, or null.
  finish() {
    return this.answer !== null && this.end < 0 ? this.complete(Buffer.concat(this.chunks), Buffer.alloc(0)) : null;
  }
}

function errorHeaders(payload, cause) {
  const type = String(payload.errorType).replace(/[^ -~]/g, '?');
  return (
    `Lambda-Runtime-Function-Error-Type: ${type}\r\n` +
    (cause === '' ? '' : `Lambda-Runtime-Function-XRay-Error-Cause: ${cause}\r\n`)
  );
}

module.exports = { RuntimeApi };
