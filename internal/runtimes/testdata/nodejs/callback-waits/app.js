exports.handler = (event, context, callback) => {
  if (event === 'waits') {
    setTimeout(() => console.log('the loop is awaited'), 5);
  } else {
    setTimeout(() => console.log('far too late'), 1000000);
    context.callbackWaitsForEmptyEventLoop = false;
  }
  callback(null, context.callbackWaitsForEmptyEventLoop);
};
