exports.handler = (event, context, callback) => {
  if (event === 'twice') {
    callback(new RangeError('first'));
    callback(null, 'second');
  } else {
    callback(event);
  }
};
