exports.handler = (event, context, callback) => {
  setTimeout(() => {
    throw new Error('from a timer');
  }, 5);
};
