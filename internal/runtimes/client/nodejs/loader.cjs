// Finds the handler.

'use strict';

const fs = require('fs');
const path = require('path');

// Loaded when there is an error.
const errors = () => require('./errors.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

// load returns the function named by directory/module.function: {handler, streaming, highWaterMark, async, callbacks}.
async function load(root, name) {
  defineGlobals();
  if (name.includes('..')) {
    throw new (errors().MalformedHandlerName)(
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(name);
  const directory = name.slice(0, name.indexOf(base));
  const dot = base.indexOf('.');
  if (dot < 0) {
    throw new (errors().MalformedHandlerName)('Bad handler');
  }
  let found = await loadModule(root, directory, base.slice(0, dot));
  for (const key of base.slice(dot + 1).split('.')) {
    found = found && found[key];
  }
  if (!found) {
    throw new (errors().HandlerNotFound)(`${name} is undefined or not exported`);
  }
  if (typeof found !== 'function') {
    throw new (errors().HandlerNotFound)(`${name} is not a function`);
  }
  const streaming = found[STREAMING];
  if (streaming && streaming !== 'response') {
    throw new (errors().MalformedStreamingHandler)('Only response streaming is supported.');
  }
  const callbacks = runtimeMajor() < 24;
  if (!callbacks && !streaming && found.length >= 3) {
    throw new (errors().CallbackHandlerDeprecated)(
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. ' +
        'You need to modify this function to use a supported handler signature to use Node.js 24 or later.',
    );
  }
  return {
    handler: found,
    streaming: Boolean(streaming),
    highWaterMark: Number.parseInt(found[HIGH_WATER_MARK], 10) || undefined,
    async: found.constructor && found.constructor.name === 'AsyncFunction',
    callbacks,
  };
}

// runtimeMajor is the version that the function asks for; the interpreter may be another one, the nearest installed.
function runtimeMajor() {
  const asked = /^AWS_Lambda_nodejs(\d+)/.exec(process.env.AWS_EXECUTION_ENV || '');
  return Number(asked ? asked[1] : process.versions.node.split('.')[0]);
}

function defineGlobals() {
  if (/^(1|true)$/.test(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) {
    return;
  }
  globalThis.awslambda = {
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (options && typeof options.highWaterMark === 'number') {
        handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
      }
      return handler;
    },
    get HttpResponseStream() {
      return require('./stream.cjs').HttpResponseStream;
    },
  };
}

async function loadModule(root, directory, name) {
  try {
    return await findModule(root, directory, name);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new (errors().UserCodeSyntaxError)(error);
    }
    if (error && error.code === 'MODULE_NOT_FOUND') {
      throw new (errors().ImportModuleError)(error);
    }
    throw error;
  }
}

// findModule takes the first that is there: the name as it is, then with .js, .mjs, .cjs; then what Node.js would
// resolve from the root.
async function findModule(root, directory, name) {
  // A require of its own, so that the stack of a failed one names a file at the runtime's place and nothing else. The
  // constructor of a module is require('module'), without what loading it as such costs.
  const load = module.constructor.createRequire(path.join(__dirname, 'index.mjs'));
  const file = path.resolve(root, directory, name);
  if (fs.existsSync(file)) {
    return load(file);
  }
  if (fs.existsSync(`${file}.js`)) {
    return isModuleScope(path.dirname(file)) ? importModule(`${file}.js`) : load(`${file}.js`);
  }
  if (fs.existsSync(`${file}.mjs`)) {
    return importModule(`${file}.mjs`);
  }
  if (fs.existsSync(`${file}.cjs`)) {
    return load(`${file}.cjs`);
  }
  return load(load.resolve(name, { paths: [root, path.resolve(root, directory)] }));
}

function importModule(file) {
  resolveInNodePath();
  return import(require('url').pathToFileURL(file).href);
}

// isModuleScope says whether the nearest package.json makes .js files ES modules.
function isModuleScope(directory) {
  for (;;) {
    if (path.basename(directory) === 'node_modules') {
      return false;
    }
    const file = path.join(directory, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8')).type === 'module';
      } catch (error) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
        return false;
      }
    }
    const parent = path.dirname(directory);
    if (parent === directory) {
      return false;
    }
    directory = parent;
  }
}

// resolveInNodePath lets ES modules import packages of NODE_PATH, which Node.js itself does for require only. It costs
// nothing unless there is a layer, and needs hooks: on this thread since Node.js 22.15, on another one since 18.19.
function resolveInNodePath() {
  const { register, registerHooks } = require('module');
  const { pathToFileURL } = require('url');
  const bases = (process.env.NODE_PATH || '')
    .split(path.delimiter)
    .filter((directory) => path.basename(directory) === 'node_modules' && fs.existsSync(directory))
    .map((directory) => pathToFileURL(path.join(path.dirname(directory), 'index.mjs')).href);
  if (bases.length === 0 || !register) {
    return;
  }
  if (!registerHooks) {
    register(pathToFileURL(path.join(__dirname, 'resolve.mjs')), { data: bases });
    return;
  }
  registerHooks({
    resolve(specifier, context, nextResolve) {
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        if (error.code !== 'ERR_MODULE_NOT_FOUND' || !isPackage(specifier)) {
          throw error;
        }
        for (const parentURL of bases) {
          try {
            return nextResolve(specifier, { ...context, parentURL });
          } catch {
            // not in this one
          }
        }
        throw error;
      }
    },
  });
}

function isPackage(specifier) {
  return !/^(\.{0,2}\/|\w+:)/.test(specifier);
}

module.exports = { load };
