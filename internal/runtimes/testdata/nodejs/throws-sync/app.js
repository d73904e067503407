exports.handler = () => {
  const e = new Error('at once');
  e.code = 'E_CODE';
  throw e;
};
