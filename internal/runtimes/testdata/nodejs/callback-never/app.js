exports.handler = (event, context, callback) => 5;
