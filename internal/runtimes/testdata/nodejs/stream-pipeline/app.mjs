import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  await pipeline(Readable.from(['a', 'b', Buffer.alloc(100000, 'c')]), stream);
}, { highWaterMark: 1000 });
