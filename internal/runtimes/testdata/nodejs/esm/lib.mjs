export const value = 'esm';
