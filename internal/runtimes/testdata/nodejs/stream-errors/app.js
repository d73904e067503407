exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event === 'before') throw new Error('before the first byte');
  stream.write('some');
  if (event === 'mid') {
    const e = new RangeError('mid-stream');
    e.stack = 'RangeError: mid-stream\n    at nowhere';
    throw e;
  }
  if (event === 'late type') {
    try { stream.setContentType('text/plain'); } catch (e) { stream.end(` ${e.name}: ${e.message}`); }
  }
  if (event === 'after') {
    stream.end();
    throw new Error('after the end');
  }
});
