const fromLayer = require('from-layer');
const own = require('own');
exports.handler = async () => [fromLayer, own];
