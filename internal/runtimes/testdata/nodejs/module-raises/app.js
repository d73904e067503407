console.log('loading');
throw new TypeError('while loading');
