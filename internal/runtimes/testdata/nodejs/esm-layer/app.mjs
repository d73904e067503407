import value from 'from-layer';
import { sub } from 'from-layer/sub.js';
import cjs from 'cjs-layer';

export const handler = async () => [value, sub, cjs, await import('nothing').catch((e) => e.code)];
