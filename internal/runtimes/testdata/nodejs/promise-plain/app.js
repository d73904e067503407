exports.handler = (event) => new Promise((resolve, reject) => {
  if (event === 1) setTimeout(resolve, 5, 'resolved');
  else if (event === 2) reject(new TypeError('rejected'));
  else reject();
});
