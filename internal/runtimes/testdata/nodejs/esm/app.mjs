import { readFileSync } from 'node:fs';
import { value } from './lib.mjs';

const top = await Promise.resolve('top-level await');
export const handler = async (event) => [value, top, typeof readFileSync];
