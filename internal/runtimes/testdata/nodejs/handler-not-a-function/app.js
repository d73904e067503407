exports.handler = async () => 1;
exports.text = 'text';
