exports.handler = async () => {
  process.stdout.write('partial line');
  process.exit(5);
};
