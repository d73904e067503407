exports.handler = async (event, context, callback) => callback(null, 1);
