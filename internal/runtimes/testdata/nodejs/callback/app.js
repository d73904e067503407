exports.handler = (event, context, callback) => {
  setTimeout(() => callback(null, { event, later: true }), 5);
};
