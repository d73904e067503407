exports.handler = async (event, context) => {
  console.log('got', event);
  return { event, text: 'käse' };
};
