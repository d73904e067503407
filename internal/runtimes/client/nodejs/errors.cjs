// Errors as the caller, the log and X-Ray see them.

'use strict';

const CAUSE_LIMIT = 32 << 10; // bytes of a header; a longer cause is left out

// The runtime's own errors are named Runtime.<class>.
function named(kind) {
  kind.prototype.name = `Runtime.${kind.name}`;
  return kind;
}

const ImportModuleError = named(class ImportModuleError extends Error {});
const HandlerNotFound = named(class HandlerNotFound extends Error {});
const MalformedHandlerName = named(class MalformedHandlerName extends Error {});
const UserCodeSyntaxError = named(class UserCodeSyntaxError extends Error {});
const MalformedStreamingHandler = named(class MalformedStreamingHandler extends Error {});
const InvalidStreamingOperation = named(class InvalidStreamingOperation extends Error {});
const CallbackHandlerDeprecated = named(class CallbackHandlerDeprecated extends Error {});

const JSONStringifyError = named(
  class JSONStringifyError extends Error {
    constructor() {
      super('Unable to stringify response body');
    }
  },
);

const NodeJsExit = named(
  class NodeJsExit extends Error {
    constructor() {
      super(
        'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a ' +
          'Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes',
      );
    }
  },
);

const UnhandledPromiseRejection = named(
  class UnhandledPromiseRejection extends Error {
    constructor(reason, promise) {
      super(reason);
      this.reason = reason;
      this.promise = promise;
    }
  },
);

const printable = (text) => text.replaceAll('\x7f', '%7F');

function looksLikeError(value) {
  return (
    value instanceof Error ||
    require('util').types.isNativeError(value) ||
    ['name', 'message', 'stack'].every((key) => value && value[key] && typeof value[key] === 'string')
  );
}

// payload is what the Runtime API is told of an error, or of whatever else was thrown.
function payload(error) {
  try {
    if (looksLikeError(error)) {
      return {
        errorType: printable(error.name),
        errorMessage: printable(error.message),
        trace: printable(error.stack).split('\n'),
      };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage:
        'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

// forLog is the text of an error in a log line.
function forLog(error) {
  try {
    return JSON.stringify(error, (_key, value) => (value instanceof Error ? expanded(value) : value));
  } catch {
    return JSON.stringify(payload(error));
  }
}

// expanded has an error's own properties and those that JSON leaves out.
function expanded(error) {
  const members = { errorType: error.name, errorMessage: error.message, code: error.code, ...error };
  if (typeof error.stack === 'string') {
    members.stack = error.stack.split('\n');
  }
  return members;
}

const asError = (value) => (value instanceof Error ? value : new Error(value));

// cause is the text of X-Ray's description of an error, or empty.
function cause(error) {
  try {
    const stack = [];
    for (const line of error.stack ? printable(error.stack).split('\n') : []) {
      const [, label, path, at] = /^ {4}at (?:(.*) \()?(?:async )?(.*?):(\d+)(?::\d+)?\)?$/.exec(line) || [];
      if (path !== undefined) {
        stack.push({ path, line: Number(at), label: label || 'anonymous' });
      }
    }
    const text = JSON.stringify({
      working_directory: process.cwd(),
      exceptions: [{ type: error.name && printable(error.name), message: error.message && printable(error.message), stack }],
      paths: [...new Set(stack.map((entry) => entry.path))],
    }).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
    return text.length <= CAUSE_LIMIT ? text : '';
  } catch {
    return '';
  }
}

module.exports = {
  ImportModuleError,
  HandlerNotFound,
  MalformedHandlerName,
  UserCodeSyntaxError,
  MalformedStreamingHandler,
  InvalidStreamingOperation,
  CallbackHandlerDeprecated,
  JSONStringifyError,
  NodeJsExit,
  UnhandledPromiseRejection,
  payload,
  forLog,
  asError,
  cause,
};
