exports.handler = (event, context) => {
  if (event === 1) return { sync: true, keys: Object.keys(context) };
  if (event === 2) throw new Error('sync');
  return new Promise(() => {});
};
