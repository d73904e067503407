Promise.reject(new Error('forgotten'));
exports.handler = async () => 1;
