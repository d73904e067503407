exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event === 'typed') stream.setContentType('text/html');
  stream.write('one ');
  stream.write(Buffer.from('two '));
  stream.write({ three: 3 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  stream.end(' end');
  if (event === 'returns') return 'ignored';
});
