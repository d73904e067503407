exports.handler = (event, context, callback) => {
  setTimeout(() => console.log('the loop is awaited', event), 30);
  if (event === 2) context.callbackWaitsForEmptyEventLoop = false;
  callback(null, context.callbackWaitsForEmptyEventLoop);
};
