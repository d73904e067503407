// A function for nodejs22.x with the handler index.handler.

export const handler = async (event, context) => {
  if (!event.name) {
    throw new Error('the event has no name');
  }
  console.log('greeting %s', event.name);
  return { message: `Hello, ${event.name}!`, runtime: 'nodejs', requestId: context.awsRequestId };
};
