const circle = {};
circle.self = circle;
const values = {
  undefined: undefined,
  null: null,
  buffer: Buffer.from('hi'),
  date: new Date(0),
  nan: NaN,
  function: () => {},
  circle,
  bigint: 1n,
  text: 'é\u2028"',
  error: new Error('returned, not thrown'),
};
exports.handler = async (event) => values[event];
