class Broken extends Error {
  constructor(message) {
    super(message);
    this.name = 'Broken';
    this.extra = { a: 1 };
  }
}
exports.handler = async () => {
  throw new Broken('it broke\nin two lines');
};
