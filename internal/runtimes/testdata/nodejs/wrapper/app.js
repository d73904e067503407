exports.handler = async () => [process.env.WRAPPED];
