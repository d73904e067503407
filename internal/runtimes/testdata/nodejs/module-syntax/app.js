exports.handler = async () => {
  const = 1;
};
