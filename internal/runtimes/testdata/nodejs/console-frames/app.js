console.log('while loading');
exports.handler = async () => {
  console.log('%s is %d', 'x', 1, { a: [1] });
  console.info('two\nlines');
  console.debug('debug');
  console.warn('warn');
  console.error('error', new RangeError('logged').message);
  console.trace('trace');
  console.fatal('fatal');
  console.log();
  process.stdout.write('raw\n');
  process.stderr.write('raw error\n');
};
