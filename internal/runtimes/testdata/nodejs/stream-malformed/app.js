exports.handler = async () => {};
exports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request';
