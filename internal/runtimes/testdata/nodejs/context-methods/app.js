exports.handler = (event, context) => {
  if (event === 'succeed') context.succeed({ ok: true });
  if (event === 'fail') context.fail(new Error('failed'));
  if (event === 'fail nothing') context.fail();
  if (event === 'done') context.done(null, 'done');
  if (event === 'done error') context.done('an error');
};
