// Handlers that stream their response (awslambda.streamifyResponse).

'use strict';

const { Writable } = require('stream');
const errors = require('./errors.cjs');
const logs = require('./logs.cjs');

const TRAILERS = ['Lambda-Runtime-Function-Error-Type', 'Lambda-Runtime-Function-Error-Body'];

// ResponseStream sends what is written to it as chunks of one request, which begins with the first of them.
class ResponseStream extends Writable {
  constructor(api, id, highWaterMark) {
    super({ highWaterMark, decodeStrings: true });
    this.api = api;
    this.id = id;
    this.contentType = 'application/octet-stream';
    this.begun = false; // something was written, or the end
    this.request = null;
    this.failure = null;
  }

  setContentType(contentType) {
    if (this.begun) {
      throw new errors.InvalidStreamingOperation('Cannot set content-type, too late.');
    }
    this.contentType = contentType;
  }

  // write also takes what JSON can express.
  write(chunk, encoding, callback) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
      chunk = JSON.stringify(chunk);
    }
    this.prelude();
    return super.write(chunk, encoding, callback);
  }

  end(chunk, encoding, callback) {
    if (typeof chunk === 'function') {
      return this.end(null, null, chunk);
    }
    if (chunk !== undefined && chunk !== null) {
      this.write(chunk, encoding);
    }
    this.prelude();
    return super.end(typeof encoding === 'function' ? encoding : callback);
  }

  prelude() {
    if (!this.begun) {
      this.begun = true;
      if (typeof this._onBeforeFirstWrite === 'function') {
        this._onBeforeFirstWrite((chunk) => super.write(chunk));
      }
    }
  }

  begin() {
    this.begun = true;
    if (this.request === null) {
      this.request = this.api.stream(
        this.id,
        `Content-Type: ${this.contentType}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
          `Trailer: ${TRAILERS.join(', ')}\r\n`,
      );
      // An answer before the end says that the response is refused; _final reports it.
      this.request.answer.catch(() => {});
    }
    return this.request.socket;
  }

  _write(chunk, _encoding, callback) {
    const socket = this.begin();
    if (chunk.length === 0 || socket.destroyed) {
      callback();
      return;
    }
    socket.cork();
    socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1');
    socket.write(chunk);
    socket.write('\r\n', 'latin1', () => callback());
    socket.uncork();
  }

  _final(callback) {
    const socket = this.begin();
    socket.ref();
    let trailers = '';
    if (this.failure !== null) {
      const payload = errors.payload(this.failure);
      const body = Buffer.from(JSON.stringify(payload)).toString('base64');
      trailers = `${TRAILERS[0]}: ${String(payload.errorType).replace(/[^ -~]/g, '?')}\r\n${TRAILERS[1]}: ${body}\r\n`;
    }
    if (!socket.destroyed) {
      socket.write(`0\r\n${trailers}\r\n`, 'latin1');
    }
    this.request.answer.then(
      () => callback(),
      (error) => callback(error.status !== undefined && error.status < 500 ? undefined : error),
    );
  }
}

// The prelude of a response for function URLs and API Gateway: status, headers and cookies as JSON, then eight NULs.
class HttpResponseStream {
  static from(stream, prelude) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    const text = JSON.stringify(prelude);
    stream._onBeforeFirstWrite = (write) => {
      write(text);
      write(new Uint8Array(8));
    };
    return stream;
  }
}

// invoke calls a streaming handler. The invocation ends when its promise is fulfilled and the stream has ended; an error
// before the first write is an ordinary one, after it goes into the trailers.
function invoke(fn, { api, id, headers, body, next }, makeContext, setWhenIdle) {
  const stream = new ResponseStream(api, id, fn.highWaterMark);
  let waits = true;
  let ended = false;

  const finish = () => {
    if (waits) {
      setWhenIdle(() => {
        setWhenIdle(() => {});
        next();
      });
    } else {
      next();
    }
  };
  const fail = (error) => {
    if (ended) {
      return;
    }
    ended = true;
    setWhenIdle(() => {});
    logs.error('Invoke Error', error);
    if (!stream.begun) {
      stream.destroy();
      api.fail(id, errors.payload(error), errors.cause(error)).then(finish, (refused) => {
        if (refused.status === undefined || refused.status >= 500) {
          throw refused;
        }
        finish();
      });
      return;
    }
    if (stream.writableEnded) {
      // The response is whole: nothing can be taken back.
      closed.then(finish, finish);
      return;
    }
    stream.failure = error;
    stream.end();
    closed.then(finish, finish);
  };
  const closed = new Promise((resolve, reject) => {
    stream.once('finish', resolve);
    stream.once('error', reject);
    stream.once('close', resolve);
  });
  closed.catch(fail);

  setWhenIdle(() => fail(new Error('Response stream is not finished.')));
  let result;
  try {
    const context = makeContext(
      {
        get callbackWaitsForEmptyEventLoop() {
          return waits;
        },
        set callbackWaitsForEmptyEventLoop(value) {
          waits = value;
        },
      },
      headers,
    );
    result = fn.handler(JSON.parse(body.toString()), stream, context);
  } catch (error) {
    fail(error);
    return;
  }
  if (!result || typeof result.then !== 'function') {
    fail('Streaming does not support non-async handlers.');
    return;
  }
  result.then(async (value) => {
    if (value !== undefined) {
      console.warn('Streaming handlers ignore return values.');
    }
    await closed;
    if (!ended) {
      ended = true;
      finish();
    }
  }).catch(fail);
}

module.exports = { HttpResponseStream, invoke };
