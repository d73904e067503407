// What resolveInNodePath of loader.cjs does, for the thread of its own that older versions run such hooks on.

let bases = [];

export function initialize(data) {
  bases = data;
}

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.{0,2}\/|\w+:)/.test(specifier)) {
      throw error;
    }
    for (const parentURL of bases) {
      try {
        return await nextResolve(specifier, { ...context, parentURL });
      } catch {
        // not in this one
      }
    }
    throw error;
  }
}
