// The runtime interface client for Node.js 16 and later: start, load the handler, then event after event.

'use strict';

const { RuntimeApi } = require('./api.cjs');
const logs = require('./logs.cjs');

// Loaded when there is an error.
const errors = () => require('./errors.cjs');

// Called when nothing is left to run, which is how a handler that called back, or forgot to, comes to its end.
let whenIdle = () => {};
process.on('beforeExit', () => whenIdle());

function main() {
  const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
  logs.patchConsole();
  api.connect(); // which takes its time while the handler is loaded
  // Where an error goes that nobody catches.
  const failure = {
    post: (error) => api.failInit(errors().payload(error), errors().cause(error)),
  };
  const die = (label, status) => (error) => {
    logs.error(label, error);
    if (!api.abandoned) {
      api.abandon();
      const exit = () => process.exit(status);
      failure.post(error).then(exit, exit);
    }
  };
  const dieUncaught = die('Uncaught Exception', 129);
  const dieUnhandled = die('Unhandled Promise Rejection', 128);
  process.on('uncaughtException', dieUncaught);
  process.on('unhandledRejection', (reason, promise) => {
    dieUnhandled(new (errors().UnhandledPromiseRejection)(reason, promise));
  });
  const { load } = require('./loader.cjs');
  load(process.env.LAMBDA_TASK_ROOT || process.cwd(), process.env._HANDLER || '').then((fn) => {
    setImmediate(loop, api, fn, failure);
  }, dieUncaught);
}

// loop takes one event; what ends its invocation starts the next one.
function loop(api, fn, failure) {
  whenIdle = () => {};
  api.next().then(
    ({ headers, body }) => {
      const id = headers['lambda-runtime-aws-request-id'];
      logs.setRequest(id, headers['lambda-runtime-aws-tenant-id']);
      if (headers['lambda-runtime-trace-id']) {
        process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
      } else {
        delete process.env._X_AMZN_TRACE_ID;
      }
      failure.post = (error) => api.fail(id, errors().payload(error), errors().cause(error));
      const invocation = { api, id, headers, body, next: () => setImmediate(loop, api, fn, failure) };
      if (fn.streaming) {
        require('./stream.cjs').invoke(fn, invocation, makeContext, setWhenIdle);
      } else {
        invoke(fn, invocation);
      }
    },
    // Without the Runtime API there is nothing to do and nobody to tell.
    (error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
}

function setWhenIdle(f) {
  whenIdle = f;
}

// invoke calls a handler that answers by its promise, by a callback, or by the old methods of the context.
function invoke(fn, { api, id, headers, body, next }) {
  let settled = false;
  let waits = true;

  // The Runtime API refuses an answer that is too large or too late; the reason is the platform's to report.
  const afterwards = (posted) =>
    posted.then(next, (error) => {
      if (error.status === undefined || error.status >= 500) {
        throw error;
      }
      next();
    });
  const fail = (error) => {
    settled = true;
    whenIdle = () => {};
    logs.error('Invoke Error', error);
    afterwards(api.fail(id, errors().payload(error), errors().cause(error)));
  };
  const succeed = (result) => {
    settled = true;
    whenIdle = () => {};
    let text;
    try {
      text = JSON.stringify(result === undefined ? null : result);
    } catch {
      fail(fn.callbacks ? new Error('Unable to stringify response body') : new (errors().JSONStringifyError)());
      return;
    }
    afterwards(api.respond(id, text === undefined ? 'null' : text));
  };
  const once = (f) => (...args) => {
    if (!settled) {
      f(...args);
    }
  };
  const done = (error, result) => (error === undefined || error === null ? succeed(result) : fail(error));
  const callback = (error, result) => {
    settled = true;
    if (error !== undefined && error !== null) {
      fail(error);
    } else if (waits) {
      whenIdle = () => {
        whenIdle = () => {};
        setImmediate(succeed, result);
      };
    } else {
      succeed(result);
    }
  };

  // The handler never called back. A promise that can no longer settle is an error, a callback not called is not.
  whenIdle = () => {
    if (fn.async || !fn.callbacks) {
      fail(new (errors().NodeJsExit)());
    } else {
      succeed(null);
    }
  };
  let result;
  try {
    const base = fn.callbacks
      ? {
          get callbackWaitsForEmptyEventLoop() {
            return waits;
          },
          set callbackWaitsForEmptyEventLoop(value) {
            waits = value;
          },
          succeed: once(succeed),
          fail: once((error) => fail(error === undefined || error === null ? 'handled' : error)),
          done: once(done),
        }
      : {};
    const event = JSON.parse(body.toString());
    const context = makeContext(base, headers);
    result = fn.callbacks ? fn.handler(event, context, once(callback)) : fn.handler(event, context);
  } catch (error) {
    once(fail)(error);
    return;
  }
  if (result && typeof result.then === 'function') {
    result.then(once(succeed), once((error) => fail(error === undefined || error === null ? 'handled' : error)));
  } else if (!fn.callbacks) {
    once(succeed)(result);
  }
}

// makeContext adds to base what every context object has.
function makeContext(base, headers) {
  const env = process.env;
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return Object.assign(base, {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parseHeader(headers['lambda-runtime-client-context'], 'ClientContext'),
    identity: parseHeader(headers['lambda-runtime-cognito-identity'], 'CognitoIdentity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  });
}

function parseHeader(text, name) {
  if (text === undefined) {
    return undefined;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

if (process.env.MAYFLY_PREINIT_FD) {
  require('./preinit.cjs').wait(Number(process.env.MAYFLY_PREINIT_FD)).then(main);
} else {
  main();
}
