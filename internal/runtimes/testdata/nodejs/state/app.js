let count = 0;
exports.handler = async (event) => {
  count++;
  if (event === 'fail') throw new Error(`after ${count}`);
  return count;
};
