exports.a = { b: { handler: async () => 'nested' } };
